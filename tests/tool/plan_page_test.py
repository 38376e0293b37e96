"""`plan --svg` and `--html`: the files, and the page in a browser where there is one."""
import html.parser
import json
import pathlib
import xml.etree.ElementTree

import tool
from browser import BrowserTest
from tool import BUDGET, CORRUPT_FILE, NOT_FOUND, valid

MODEL = pathlib.Path(__file__).resolve().parent.parent / "golden" / "logits" / "tied-q4_1.gguf"


class Words(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.words = []

    def handle_data(self, data):
        self.words.append(data.strip())


class PlanPage(BrowserTest):
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

    def test_a_browser_shows_the_page_whole_and_has_nothing_to_say_about_it(self):
        self.check_browser()
        for budget in (self.tight(), (), self.with_device()):
            self.drawn(*budget)
            self.assertEqual(self.check_rendered(self.html), 4)


if __name__ == "__main__":
    tool.main()
