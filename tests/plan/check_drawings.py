"""The drawings that plan_drawing_test wrote: well-formed, all inside the picture, every lane there, names whole and harmless."""
import html.parser
import pathlib
import re
import sys
import unittest
import xml.etree.ElementTree

SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"headline": 22, "title": 16, "small": 11.5, "inside": 11.5}
# Of a character in the widest face of the style sheet, as a share of its size; digits and capitals are wider, most letters narrower.
CHARACTER = 0.6
VOID = {"meta", "br", "link", "img", "hr"}

folder = pathlib.Path(sys.argv.pop(1))


def numbers(text):
    return [float(number) for number in re.findall(r"-?[0-9.]+", text)]


def boxes(element, dx=0.0, dy=0.0):
    """(element, left, top, right, bottom) of everything that is drawn."""
    if "transform" in element.attrib:
        x, y = numbers(element.attrib["transform"])
        dx, dy = dx + x, dy + y
    get = lambda name: float(element.attrib[name])
    tag = element.tag.replace(SVG, "")
    if tag == "rect":
        yield element, dx + get("x"), dy + get("y"), dx + get("x") + get("width"), dy + get("y") + get("height")
    elif tag == "line":
        yield element, dx + min(get("x1"), get("x2")), dy + min(get("y1"), get("y2")), dx + max(get("x1"), get("x2")), dy + max(get("y1"), get("y2"))
    elif tag == "text":
        classes = element.attrib["class"].split()
        size = next((SIZES[name] for name in classes if name in SIZES), 13)
        width = len(element.text or "") * size * CHARACTER
        left = get("x") - (width if "right" in classes else width / 2 if "middle" in classes else 0)
        yield element, dx + left, dy + get("y") - size, dx + left + width, dy + get("y") + size * 0.3
    elif tag == "path":
        x = y = 0.0
        for command, arguments in re.findall(r"([A-Za-z])([^A-Za-z]*)", element.attrib["d"]):
            assert command in "MHVZ", command
            values = numbers(arguments)
            x = values[0] if command in "MH" else x
            y = values[-1] if command in "MV" else y
            yield element, dx + x, dy + y, dx + x, dy + y
    for child in element:
        yield from boxes(child, dx, dy)


class Balanced(html.parser.HTMLParser):
    """Every tag closed in order; what was opened, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.words, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)


class Drawings(unittest.TestCase):
    def paths(self, ending):
        paths = sorted(folder.glob("*" + ending))
        self.assertGreater(len(paths), 50)
        return paths

    def test_every_svg_is_xml_with_everything_inside(self):
        for path in self.paths(".svg"):
            with self.subTest(path=path.name):
                root = xml.etree.ElementTree.parse(path).getroot()
                self.assertEqual(root.tag, SVG + "svg")
                left, top, width, height = numbers(root.attrib["viewBox"])
                drawn = list(boxes(root))
                self.assertGreater(len(drawn), 20)
                for element, x1, y1, x2, y2 in drawn:
                    what = (element.tag, element.attrib, element.text)
                    self.assertLessEqual(x1, x2, what)
                    self.assertLessEqual(y1, y2, what)
                    self.assertGreaterEqual(x1, left - 0.01, what)
                    self.assertGreaterEqual(y1, top - 0.01, what)
                    self.assertLessEqual(x2, left + width + 0.01, what)
                    self.assertLessEqual(y2, top + height + 0.01, what)

    def test_every_lane_is_there_and_every_class_has_a_style(self):
        for path in self.paths(".svg"):
            with self.subTest(path=path.name):
                root = xml.etree.ElementTree.parse(path).getroot()
                texts = [element.text for element in root.iter(SVG + "text")]
                for lane in ("disk", "host") + (("device",) if path.name.startswith("device") else ()):
                    self.assertGreaterEqual(texts.count(lane), 2)  # in a step, and of memory
                self.assertEqual("to device" in texts, path.name.startswith("device"))
                style = root.find(SVG + "style").text
                for element in root.iter():
                    for name in element.attrib.get("class", "").split():
                        self.assertRegex(style, rf"\.{name}\b")
                for variable in re.findall(r"var\((--[a-z0-9]+)\)", style):
                    self.assertEqual(len(re.findall(rf"{variable}:#", style)), 2, variable)  # light and dark

    def test_bars_of_a_lane_do_not_overlap(self):
        for path in self.paths(".svg"):
            with self.subTest(path=path.name):
                root = xml.etree.ElementTree.parse(path).getroot()
                for group in root.iter(SVG + "g"):
                    bars = {}
                    for rect in group.iter(SVG + "rect"):
                        title = rect.find(SVG + "title")
                        if title is not None and " from " in title.text:
                            x = float(rect.attrib["x"])
                            bars.setdefault(rect.attrib["y"], []).append((x, x + float(rect.attrib["width"])))
                    for lane in bars.values():
                        lane.sort()
                        for (unused, end), (begin, unused) in zip(lane, lane[1:]):
                            self.assertLessEqual(end, begin + 0.45)  # the least width of a bar is 0.4

    def test_every_page_is_balanced_and_needs_nothing_else(self):
        for path in self.paths(".html"):
            with self.subTest(path=path.name):
                text = path.read_text(encoding="utf-8")
                page = Balanced()
                page.feed(text)
                page.close()
                self.assertEqual(page.open, [])
                self.assertNotIn("script", page.seen)
                self.assertEqual(page.addresses, [])
                self.assertNotRegex(text, r"@import|url\(")
                self.assertEqual(set(re.findall(r"https?://[^\"<> ]*", text)) - {"http://www.w3.org/2000/svg"}, set())
                self.assertIn("this plan" if re.search("What (more|other) memory", text) else "The plan as text", page.words)

    def test_evil_names_come_through_as_text(self):
        whole = "".join(path.read_text(encoding="utf-8") for path in self.paths(".html"))
        self.assertIn("&lt;/text&gt;&lt;script&gt;alert(1)&lt;/script&gt;", whole)
        self.assertNotIn("<script", whole)
        self.assertIn("\U0001f6a3 \u00e9t\u00e9", whole)
        self.assertIn("\ufffd", whole)


if __name__ == "__main__":
    unittest.main(verbosity=2)
