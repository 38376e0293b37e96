"""Pages in a browser, where there is one; shared by the tests beside this file."""
import re
import shutil
import subprocess

import tool

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


class BrowserTest(tool.ToolTest):
    def check_browser(self):
        """Skips without one. That mistakes would be seen: a page with one in it."""
        if browser() is None:
            self.skipTest(f"no browser is installed: none of {', '.join(BROWSERS)}")
        wrong = tool.options.scratch / "wrong.html"
        wrong.write_text("<!doctype html><title>x</title><script>no_such_function()</script>")
        self.assertNotEqual(self.rendered(wrong)[1], [])

    def rendered(self, page):
        """The document after it was rendered, and what its console said."""
        command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0",
                   f"--user-data-dir={tool.options.scratch / 'browser'}", "--dump-dom", page.resolve().as_uri()]
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240, stdin=subprocess.DEVNULL)
        self.assertEqual(process.returncode, 0, process.stderr[-2000:])
        return process.stdout.decode(), [line for line in process.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]

    def check_rendered(self, page, more_than=60):
        """It is shown whole, nothing lies outside of its drawings, which have more than so many elements, and the console is silent. How many drawings there are."""
        document, said = self.rendered(page)
        self.assertEqual(said, [])
        self.assertIn("</html>", document)
        measured = page.with_name("measured.html")
        measured.write_text(page.read_text().replace("</body>", MEASURE + "</body>"))
        measured_document, said = self.rendered(measured)
        measured.unlink()
        self.assertEqual(said, [])
        elements, outside = re.search(r"elements (\d+) outside (.*)</p>", measured_document, re.DOTALL).groups()
        self.assertGreater(int(elements), more_than)
        self.assertEqual(outside.split("</p>")[0].strip(), "0")
        return document.count("<svg")
