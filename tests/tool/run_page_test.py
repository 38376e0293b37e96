"""`run --report`: what the page says is what the document says, and it is shown whole in a browser where there is one."""
import html.parser
import json
import re

import tool
from browser import BrowserTest
from tool import NOT_FOUND, USAGE, valid


class Words(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.words = []
        self.feed(text)

    def handle_data(self, data):
        self.words.append(data.strip())


class RunPage(BrowserTest):
    def setUp(self):
        self.page = tool.options.scratch / "run.html"
        self.page.unlink(missing_ok=True)

    def reported(self, *arguments):
        document = self.document("run", valid(), "--report", self.page, "--temp", "0", *arguments)
        return document, Words(self.page.read_text()).words

    def drafted(self):
        # A tiny model repeats itself, so that what followed before is right now and then.
        return self.reported("-p", "ab ab ab ab", "-n", "60", "--ignore-eos", "--draft", "ngram", "--draft-tokens", "4")

    def test_drafts_are_told_as_in_the_document(self):
        document, words = self.drafted()
        told = document["speculation"]
        self.assertGreater(told["drafted"], 0)
        self.assertIn(f"{told['accepted']} of {told['drafted']} tokens of ngram; by the depth in a draft", words)
        self.assertIn(f"{told['tokens_per_pass']:.3f}", words)
        text = self.page.read_text()
        for depth, (drafted, accepted) in enumerate(zip(told["drafted_at"], told["accepted_at"]), 1):
            self.assertIn(f"depth {depth}: {drafted} drafted, {accepted} accepted", text)
        self.assertNotIn(f"depth {len(told['drafted_at']) + 1}:", text)

    def test_lanes_are_told_as_in_the_document(self):
        document, words = self.drafted()
        lanes = document["lanes"]
        self.assertGreater(lanes["host_ms"], 0)
        self.assertLessEqual(lanes["host_ms"], lanes["wall_ms"])
        self.assertEqual((lanes["disk_ms"], lanes["device_ms"]), (0, 0))
        self.assertTrue(any(word.startswith(f"{lanes['steps']} steps, ") for word in words), words)
        self.assertIn("host", words)
        self.assertNotIn("disk", words)

    def test_without_a_draft_nothing_is_said_of_any(self):
        document, words = self.reported("-p", "ab", "-n", "8", "--draft", "none")
        self.assertEqual(document["speculation"]["drafted"], 0)
        self.assertNotIn("What was accepted", words)
        self.assertIn("What each lane did", words)

    def test_many_prompts_have_one_page(self):
        prompts = tool.options.scratch / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": f"a{i} ab ab", "n": 12}) + "\n" for i in range(3)))
        for at_once in ("1", "2"):
            document, words = self.reported("--prompts", prompts, "--batch", at_once, "--ignore-eos")
            self.assertGreater(document["lanes"]["steps"], 0)
            self.assertTrue(any(word.startswith(f"3 prompts, {at_once} at once. ") for word in words), words)
            self.assertTrue(any(word.startswith("36 tokens, ") for word in words), words)

    def test_without_it_no_lanes_are_measured(self):
        self.assertNotIn("lanes", self.document("run", valid(), "-p", "ab", "-n", "2", "--temp", "0"))

    def test_what_cannot_be_written_is_said_before_the_work(self):
        self.refuse(NOT_FOUND, "run", valid(), "-p", "ab", "--report", tool.options.scratch / "no" / "run.html", naming="run")
        self.refuse(USAGE, "run", valid(), "--chat", "--report", self.page)
        self.assertFalse(self.page.exists())

    def test_the_page_needs_nothing_else(self):
        self.drafted()
        text = self.page.read_text()
        self.assertNotIn("<script", text)
        self.assertEqual(set(re.findall(r"https?://[^\"<> ]*", text)) - {"http://www.w3.org/2000/svg"}, set())

    def test_a_browser_shows_the_page_whole_and_has_nothing_to_say_about_it(self):
        self.check_browser()
        self.drafted()
        self.assertEqual(self.check_rendered(self.page, more_than=30), 3)


if __name__ == "__main__":
    tool.main()
