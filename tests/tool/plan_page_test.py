"""`plan --svg` and `--html`: the files, and the page in a browser where there is one."""
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree

import tool
from tool import BUDGET, CORRUPT_FILE, NOT_FOUND, ToolTest, valid

MODEL = pathlib.Path(__file__).resolve().parent.parent / "golden" / "logits" / "tied-q4_1.gguf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# Put at the end of a page: what of its drawings lies outside of them, and how much there is.
MEASURE = """<p id="measured"></p><script>
const outside = [];
let elements = 0;
for (const svg of document.querySelectorAll("svg.plan")) {
  const view = svg.viewBox.baseVal;
  for (const element of svg.querySelectorAll("rect,line,text,path")) {
    const box = element.getBBox();
    elements += 1;
    const fits = box.x >= view.x - 0.5 && box.y >= view.y - 0.5 && box.x + box.width <= view.x + view.width + 0.5 &&
        box.y + box.height <= view.y + view.height + 0.5;
    if (!fits) outside.push(element.outerHTML);
  }
  if (svg.getBoundingClientRect().width < 500) outside.push("a drawing that is not shown");
}
document.getElementById("measured").textContent = `elements ${elements} outside ${outside.length} ${outside.slice(0, 3)}`;
</script>"""


def browser():
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


class Words(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.words = []

    def handle_data(self, data):
        self.words.append(data.strip())


class PlanPage(ToolTest):
    def setUp(self):
        self.svg, self.html = tool.options.scratch / "plan.svg", tool.options.scratch / "plan.html"
        for path in (self.svg, self.html):
            path.unlink(missing_ok=True)

    def drawn(self, *more):
        return self.succeed("plan", MODEL, "--svg", self.svg, "--html", self.html, *more)

    def tight(self):
        return "--host-budget", str(self.refuse(BUDGET, "plan", MODEL, "--host-budget", "1KiB")["minimum_bytes"])

    def test_both_files_beside_the_table(self):
        plain = self.succeed("plan", MODEL, *self.tight()).out
        self.assertEqual(self.drawn(*self.tight()).out, plain)
        root = xml.etree.ElementTree.parse(self.svg).getroot()
        texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        self.assertTrue({"disk", "host", "ring", "Memory"} <= set(texts), texts)
        self.assertTrue(plain.startswith(texts[0]), texts[0])
        page = Words()
        page.feed(self.html.read_text())
        self.assertIn(plain.strip(), page.words)
        self.assertIn("blk.0.attn_q.weight", page.words)
        self.assertEqual(self.svg.stat().st_mode & 0o777, self.html.stat().st_mode & 0o777)

    def test_with_json_the_document_stays_alone_on_stdout(self):
        document = self.document("plan", MODEL, "--svg", self.svg)
        self.assertTrue(document["feasible"])
        self.assertTrue(self.svg.exists())

    def test_a_saved_plan_and_another_machine_can_be_drawn(self):
        saved = tool.options.scratch / "plan.json"
        saved.write_text(self.succeed("plan", MODEL, *self.tight(), "--json").out)
        self.drawn("--plan", saved)
        self.assertIn("binds", self.svg.read_text())
        profile = tool.options.scratch / "profile.json"
        profile.write_text(json.dumps({**self.document("profile"), "machine": "a borrowed one"}))
        self.drawn("--profile", profile)
        self.assertIn("a borrowed one", self.svg.read_text())

    def with_device(self):
        """The options for a machine whose device is far faster than its host."""
        profile = self.document("profile")
        for lane in ("host_stream_bytes", "host_small_batch_ops", "host_int8_ops", "host_attention_flops"):
            profile[lane]["per_s"] = 1e6
        for lane in ("h2d_bytes", "d2h_bytes", "device_stream_bytes", "device_int8_ops", "device_small_batch_ops", "device_attention_flops"):
            profile[lane] = {"per_s": 1e11, "spread": 0.0, "how": "by hand"}
        profile.update({"device": "some device", "device_memory_bytes": 1 << 30, "device_step_overhead_us": 5.0, "link_latency_us": 5.0, "device_threads": 4})
        path = tool.options.scratch / "device.json"
        path.write_text(json.dumps(profile))
        return "--profile", path

    def test_a_device_has_lanes_and_memory_of_its_own(self):
        self.drawn(*self.with_device())
        root = xml.etree.ElementTree.parse(self.svg).getroot()
        texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        self.assertGreaterEqual(texts.count("device"), 3)  # of two steps, and of memory
        for lane in ("to device", "to host"):
            self.assertGreaterEqual(texts.count(lane), 2)
        page = Words()
        page.feed(self.html.read_text())
        self.assertIn("without the device", page.words)

    def test_what_cannot_be_drawn_or_written_leaves_nothing(self):
        for option in ("--svg", "--html"):
            self.refuse(NOT_FOUND, "plan", MODEL, option, tool.options.scratch / "no" / "plan", naming="plan")
            self.refuse(BUDGET, "plan", MODEL, "--host-budget", "1KiB", option, self.svg)
        broken = tool.options.scratch / "broken.gguf"
        broken.write_bytes(valid().read_bytes()[:200])
        self.refuse(CORRUPT_FILE, "plan", broken, "--svg", self.svg)
        self.assertFalse(self.svg.exists())

    def rendered(self, page):
        """The document after it was rendered, and what its console said."""
        command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0",
                   f"--user-data-dir={tool.options.scratch / 'browser'}", "--dump-dom", page.resolve().as_uri()]
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240, stdin=subprocess.DEVNULL)
        self.assertEqual(process.returncode, 0, process.stderr[-2000:])
        return process.stdout.decode(), [line for line in process.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]

    def test_a_browser_shows_the_page_whole_and_has_nothing_to_say_about_it(self):
        if browser() is None:
            self.skipTest(f"no browser is installed: none of {', '.join(BROWSERS)}")
        # That this would be seen: a page with a mistake in it.
        wrong = tool.options.scratch / "wrong.html"
        wrong.write_text("<!doctype html><title>x</title><script>no_such_function()</script>")
        self.assertNotEqual(self.rendered(wrong)[1], [])
        for budget in (self.tight(), (), self.with_device()):
            self.drawn(*budget)
            document, said = self.rendered(self.html)
            self.assertEqual(said, [])
            self.assertEqual(document.count("<svg"), 4)
            self.assertIn("</html>", document)
            measured = tool.options.scratch / "measured.html"
            measured.write_text(self.html.read_text().replace("</body>", MEASURE + "</body>"))
            document, said = self.rendered(measured)
            self.assertEqual(said, [])
            elements, outside = re.search(r"elements (\d+) outside (.*)</p>", document, re.DOTALL).groups()
            self.assertGreater(int(elements), 100)
            self.assertEqual(outside.split("</p>")[0].strip(), "0")


if __name__ == "__main__":
    tool.main()
