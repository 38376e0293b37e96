"""The command line: help, version, what is refused and how, documents of commands that compute nothing."""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
import make_bad_gguf

import tool
from tool import BUDGET, CORRUPT_FILE, INVALID_ARGUMENT, IO, NOT_FOUND, UNAVAILABLE, UNSUPPORTED, USAGE, ToolTest, run, valid

COMMANDS = ("run", "plan", "inspect", "tokenize", "profile", "eval", "bench", "pack", "compress", "export")


class Line(ToolTest):
    def test_version_says_what_was_built(self):
        self.assertRegex(self.succeed("--version").out, r"^outrigger \d+\.\d+\.\d+\n")
        document = self.document("--version")
        self.check_fields(document, {"version": "", "c_abi": 0, "build": {"compiler": "", "simd": [], "cuda": False}, "simd_in_use": "",
                                     "usable_cores": 0})
        self.assertIn(document["simd_in_use"], document["build"]["simd"])

    def test_every_command_has_help_with_examples(self):
        for command in COMMANDS:
            help = self.succeed(command, "--help").out
            self.assertIn("Examples:", help)
            self.assertIn(f"outrigger {command}", help)
            self.assertIn("--json", help)
        text = self.succeed("--help").out
        self.assertIn("Exit codes", text)
        for command in COMMANDS:
            self.assertIn(command, text)

    def test_a_line_that_cannot_be_understood_is_a_usage_error_with_a_hint(self):
        model = valid()
        for args in ([], ["walk"], ["run"], ["run", model], ["run", model, "-p", "a", "-f", "b"], ["run", model, "-p", "a", "--tmep", "1"],
                     ["run", model, "-p", "a", "-n", "many"], ["run", model, "-p", "a", "-n", "-1"],
                     ["run", model, "-p", "a", "--host-budget", "64M"], ["run", model, "-p", "a", "--disk-direct", "maybe"],
                     ["run", model, "-p", "a", "--numerics", "float16"], ["run", model, "-p", "a", "--plan", "p", "--host-budget", "1GB"],
                     ["run", model, "-p", "a", "--system", "x"], ["run", model, model, "-p", "a"],
                     ["run", model, "-p", "a", "--branch", "some"], ["run", model, "-p", "a", "--branch", "150%"], ["bench", model, "--branch", "-1"], ["run", model, "-p", "a", "--branch", "follow:5%"],
                     ["compress", model, "-o", "x.gguf", "--calibration", model, "--allocate", "best"],
                     ["plan", model, "--workload", "prompt=x"], ["plan", model, "--profile", "p", "--threads", "1"], ["tokenize", model],
                     ["tokenize", model, "text", "--file", "f"], ["eval", model], ["eval", model, "--logits", "x", "--task", "y"],
                     ["eval", model, "--text", "t", "--ctx", "3"], ["eval", model, "--text", "t", "--chunks", "0"],
                     ["bench", model, "-p", "1,x"], ["bench", model, "--repeat", "0"], ["profile", "stray"], ["pack", model], ["export", model], ["export", model, "--adapter", "a"]):
            with self.subTest(args=args):
                self.refuse(USAGE, *args, naming="--help'")

    def test_what_the_contract_has_and_this_version_has_not_is_refused_by_name(self):
        model, prompt = valid(), ("-p", "a")
        self.refuse(INVALID_ARGUMENT, "run", model, *prompt, "--groups", "2", naming="--groups")
        prompts = tool.options.scratch / "two.jsonl"
        prompts.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
        self.refuse(UNSUPPORTED, "run", model, "--prompts", prompts, "--batch", "2", "--draft", "self", naming="--draft")
        for command in (("run", model, *prompt, "--batch", "2"), ("run", model, "--prompts", prompts, "--batch", "1,2"), ("run", model, "--prompts", prompts, "--batch", "0"),
                        ("bench", model, "--batch", "1,0"), ("bench", model, "--batch", "513"), ("eval", model, "--text", prompts, "--batch", "2")):
            with self.subTest(command=command[0]):
                self.refuse(INVALID_ARGUMENT, *command, naming="--batch")
        for args in (("--draft-tokens", "0"), ("--draft-tokens", "17"), ("--draft-tokens", "4x"), ("--draft-tokens", "32", "--draft-shape", "tree"), ("--draft-shape", "ring"), ("--groups", "3"), ("--draft", "")):
            with self.subTest(args=args):
                self.refuse(INVALID_ARGUMENT, "run", model, *prompt, *args, naming=args[0].strip("-").split("-")[0])

    def test_values_that_mean_nothing_new_are_taken(self):
        self.succeed("run", valid(), "-p", "a", "-n", "1", "--draft", "auto", "--draft-tokens", "auto", "--draft-shape", "chain", "--groups", "1",
                     "--batch", "1", "--device", "cpu", "--branch", "50%")

    def test_a_device_that_is_not_there(self):
        # No machine has as many; without the CUDA backend, or a driver, that is what is said.
        self.refuse(UNAVAILABLE, "run", valid(), "-p", "a", "-n", "4", "--device", "cuda:9999", naming="cuda:9999")
        self.refuse(UNAVAILABLE, "plan", valid(), "--device", "cuda:9999", naming="cuda:9999")
        self.refuse(INVALID_ARGUMENT, "run", valid(), "-p", "a", "-n", "4", "--device-budget", "1GB", naming="--device-budget")
        for device in ("gpu", "cuda:", "cuda:x", "emulated:memory=256MiB", "emulated:memory=x,link=4GB/s", "emulated:memory=1GB,link=4GB"):
            self.refuse(INVALID_ARGUMENT, "run", valid(), "-p", "a", "--device", device, naming="--device")

    def test_files_that_are_not_there_or_not_what_they_should_be(self):
        garbage = tool.options.scratch / "garbage.gguf"
        garbage.write_bytes(b"no model at all" * 10)
        for command, more in (("run", ("-p", "a")), ("plan", ()), ("inspect", ()), ("tokenize", ("a",)), ("eval", ("--text", valid())), ("bench", ())):
            with self.subTest(command=command):
                error = self.refuse(NOT_FOUND, command, "/nonexistent/model.gguf", *more, naming="/nonexistent/model.gguf")
                self.assertEqual(error["file"], "/nonexistent/model.gguf")
                error = self.refuse(CORRUPT_FILE, command, garbage, *more, naming="garbage.gguf")
                self.assertIn("byte_offset", error)
        self.refuse(NOT_FOUND, "run", valid(), "-f", "/nonexistent/prompt", naming="/nonexistent/prompt")
        self.refuse(NOT_FOUND, "plan", valid(), "--profile", "/nonexistent/p.json", naming="/nonexistent/p.json")
        self.refuse(IO, "tokenize", valid(), "--file", "/", naming="/")
        self.refuse(NOT_FOUND, "eval", valid(), "--text", "/nonexistent/t", naming="/nonexistent/t")

    def test_an_error_stays_one_line_whatever_the_name(self):
        self.refuse(NOT_FOUND, "inspect", "/nonexistent/a\nb\x1b[31m.gguf", naming="a\\x0ab\\x1b[31m.gguf")

    def test_a_result_that_nobody_takes_is_an_io_error(self):
        with open("/dev/full", "wb") as full:
            process = subprocess.run([tool.options.tool, "inspect", valid()], stdout=full, stderr=subprocess.PIPE, env=tool.environment())
        self.assertEqual(process.returncode, IO, process.stderr)
        read_end, write_end = os.pipe()
        os.close(read_end)
        process = subprocess.run([tool.options.tool, "inspect", valid()], stdout=write_end, stderr=subprocess.PIPE, env=tool.environment())
        os.close(write_end)
        self.assertEqual(process.returncode, IO, process.stderr)
        self.assertIn(b"standard output", process.stderr)

    def test_memory_that_the_system_refuses(self):
        if tool.options.sanitizer:
            self.skipTest("a sanitizer's shadow does not live under a limit")
        big = tool.options.scratch / "big"
        with open(big, "wb") as file:
            file.truncate(4 << 30)
        limited = f"ulimit -v 1500000; exec {tool.options.tool} tokenize {valid()} --file {big}"
        process = subprocess.run(["bash", "-c", limited], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=tool.environment())
        self.assertEqual(process.returncode, tool.OUT_OF_MEMORY, process.stderr)
        self.assertEqual(process.stderr.count(b"\n"), 1)
        big.unlink()


class Inspect(ToolTest):
    FIELDS = {"file": "", "name": "", "architecture": "", "parameters": 0, "bytes": 0, "bits_per_weight": 0.0, "context_tokens": 0, "layers": 0,
              "heads": 0, "kv_heads": 0, "head_dim": 0, "width": 0, "ffn_width": 0, "vocabulary_tokens": 0, "tokenizer": "",
              "chat_template": "", "tensors_by_type": {}, "can_run": True, "why_not": ""}

    def test_a_model(self):
        document = self.document("inspect", valid(), "--tensors")
        self.check_fields(document, self.FIELDS)
        self.assertEqual((document["architecture"], document["layers"], document["context_tokens"]), ("llama", 1, 128))
        self.assertEqual(document["bytes"], valid().stat().st_size)
        self.assertTrue(document["can_run"])
        source = make_bad_gguf.sentencepiece_model()
        self.assertEqual({tensor["name"] for tensor in document["tensors"]}, set(source.tensors))
        for kind, number in (("F32", make_bad_gguf.TYPE_F32), ("Q4_1", make_bad_gguf.TYPE_Q4_1)):
            sizes = [len(data) for of_kind, dims, data in source.tensors.values() if of_kind == number]
            self.assertEqual(document["tensors_by_type"][kind]["count"], len(sizes))
            self.assertEqual(document["tensors_by_type"][kind]["bytes"], sum(sizes))
        self.assertEqual(sum(total["parameters"] for total in document["tensors_by_type"].values()), document["parameters"])
        text = self.succeed("inspect", valid()).out
        self.assertIn("llama", text)
        self.assertIn("Q4_1", text)

    def test_a_vocabulary_alone_can_be_inspected_and_tokenizes_but_does_not_run(self):
        source = make_bad_gguf.sentencepiece_model()
        source.tensors.clear()
        path = tool.options.scratch / "vocabulary.gguf"
        path.write_bytes(source.to_bytes())
        document = self.document("inspect", path)
        self.assertFalse(document["can_run"])
        self.assertTrue(document["why_not"])
        self.assertEqual(self.document("tokenize", path, "hello there"), self.document("tokenize", valid(), "hello there"))
        self.refuse(UNSUPPORTED, "run", path, "-p", "a")


class Tokenize(ToolTest):
    def test_ids_and_pieces(self):
        document = self.document("tokenize", valid(), "the")
        self.assertEqual(len(document["ids"]), len(document["pieces"]))
        self.assertEqual("".join(document["pieces"]).replace("\u2581", " ").strip(), "the")
        self.assertIn(str(document["ids"][0]), self.succeed("tokenize", valid(), "the").out)

    def test_special_adds_what_the_model_wants_and_reads_special_text(self):
        plain, special = self.document("tokenize", valid(), "the"), self.document("tokenize", valid(), "the", "--special")
        self.assertEqual(special["ids"], [1] + plain["ids"])
        self.assertIn(2, self.document("tokenize", valid(), "a</s>", "--special")["ids"])
        self.assertNotIn(2, self.document("tokenize", valid(), "a</s>")["ids"])

    def test_a_command_s_name_and_a_dash_are_text_too(self):
        self.assertEqual("".join(self.document("tokenize", valid(), "plan")["pieces"]).replace("\u2581", " ").strip(), "plan")
        outcome = self.succeed("tokenize", valid(), "--json", "--", "--help")
        self.assertGreater(len(json.loads(outcome.out)["ids"]), 3)

    def test_bytes_of_a_file_are_taken_as_they_are(self):
        path = tool.options.scratch / "bytes"
        path.write_bytes(b"a\x00\xff\r\nb\n")
        ids = self.document("tokenize", valid(), "--file", path)["ids"]
        self.assertEqual(ids[-1], 3 + ord("\n"))  # the token of the byte 10
        self.assertIn(3, ids)
        self.assertIn(3 + 0xff, ids)
        from_stdin = self.document("tokenize", valid(), "--file", "-", input="a b")["ids"]
        self.assertEqual(from_stdin, self.document("tokenize", valid(), "a b")["ids"])


class Plan(ToolTest):
    FIELDS = {"feasible": True, "minimum": {"host_bytes": 0, "device_bytes": 0},
              "tiers": {"host": {"budget_bytes": 0, "planned_bytes": 0,
                                 "breakdown": {name: 0 for name in ("weights_resident", "stream_slots", "kv_cache", "activations", "draft",
                                                                    "branches", "experts", "other")}}, "device": {}},
              "tensors": [], "step": {"decode": {"lanes": {"disk_ms": 0.0, "h2d_ms": 0.0, "host_ms": 0.0, "device_ms": 0.0}, "predicted_ms": 0.0,
                                                 "tokens": 0}},
              "draft": {"kind": "", "tokens": 0, "expected_tokens_per_pass": 0.0}, "alternatives": []}

    def test_the_document(self):
        document = self.document("plan", valid(), "--host-budget", "64MiB")
        self.check_fields(document, self.FIELDS)
        host = document["tiers"]["host"]
        self.assertEqual(sum(host["breakdown"].values()), host["planned_bytes"])
        self.assertEqual(host["budget_bytes"], 64 << 20)
        self.assertLessEqual(host["planned_bytes"], host["budget_bytes"])
        for tensor in document["tensors"]:
            self.check_fields(tensor, {"name": "", "bytes": 0, "home": "", "tier": "", "mode": "", "compute": ""})

    def test_the_table_fits_a_screen(self):
        lines = self.succeed("plan", valid(), "--host-budget", "64MiB").out.splitlines()
        self.assertLessEqual(len(lines), 24)
        self.assertLessEqual(max(map(len, lines)), 120)

    def test_too_small_a_budget_tells_the_smallest_and_that_one_does(self):
        error = self.refuse(BUDGET, "plan", valid(), "--host-budget", "1KiB", naming="host")
        self.assertEqual(error["given_bytes"], 1024)
        self.assertEqual(error["needed_bytes"], error["minimum_bytes"])
        minimum = error["minimum_bytes"]
        document = self.document("plan", valid(), "--host-budget", str(minimum))
        self.assertEqual(document["minimum"]["host_bytes"], minimum)
        self.assertLessEqual(document["tiers"]["host"]["planned_bytes"], minimum)
        self.refuse(BUDGET, "plan", valid(), "--host-budget", str(minimum - 1))

    def test_a_workload_and_a_machine_can_be_given(self):
        small = self.document("plan", valid(), "--workload", "prompt=8,new=8")
        large = self.document("plan", valid(), "--workload", "prompt=64,new=64")
        kv = lambda document: document["tiers"]["host"]["breakdown"]["kv_cache"]
        self.assertGreater(kv(large), kv(small))
        profile = self.document("profile", "--disk", valid())
        for rate in profile.values():
            if isinstance(rate, dict) and "per_s" in rate:
                rate["per_s"] *= 1000
        path = tool.options.scratch / "fast_machine.json"
        path.write_text(json.dumps(profile))
        fast = self.document("plan", valid(), "--profile", path)
        self.assertLess(fast["step"]["decode"]["lanes"]["host_ms"], self.document("plan", valid())["step"]["decode"]["lanes"]["host_ms"])
        path.write_text("{}")
        self.refuse(INVALID_ARGUMENT, "plan", valid(), "--profile", path, naming="fast_machine.json")


class DevicePlan(ToolTest):
    DEVICE = "emulated:memory=64MiB,link=4GB/s"
    RATES = {"h2d_bytes": 12e9, "d2h_bytes": 12e9, "device_stream_bytes": 4e11, "device_int8_ops": 2e13, "device_small_batch_ops": 5e12,
             "device_attention_flops": 5e12}

    def machine(self, **more):
        """The file of a profile with a device of 1 GiB, ten times as fast as the host was, unless told otherwise."""
        profile = self.document("profile", "--disk", valid())
        profile.update({"device": "some device", "device_memory_bytes": 1 << 30, "device_step_overhead_us": 0.0, "link_latency_us": 0.0, "device_threads": 4})
        for lane in ("host_stream_bytes", "host_small_batch_ops", "host_int8_ops", "host_attention_flops"):
            profile[lane]["per_s"] = 1e6
        profile.update({name: {"per_s": rate, "spread": 0.0, "how": "by hand"} for name, rate in self.RATES.items()})
        profile.update(more)
        path = tool.options.scratch / "device_machine.json"
        path.write_text(json.dumps(profile))
        return path

    def test_a_given_machine_with_a_fast_device_has_everything_there(self):
        document = self.document("plan", valid(), "--profile", self.machine())
        parts = [tensor for tensor in document["tensors"] if tensor["tier"] == "device"]
        self.assertGreater(len(parts), 0)
        for tensor in parts:
            self.assertEqual((tensor["home"], tensor["mode"], tensor["compute"]), ("disk", "resident", "device"))
        device = document["tiers"]["device"]
        self.assertEqual(device["budget_bytes"], (1 << 30) // 10 * 9)
        self.assertEqual(sum(device["breakdown"].values()), device["planned_bytes"])
        self.assertGreater(document["step"]["decode"]["lanes"]["device_ms"], 0)
        self.check_fields(document["device_stream"], {"slots": 0, "slot_bytes": 0, "from_tokens": 0, "threads": 0, "transfer_bytes": 0})
        self.assertIn("without the device", [other["what"] for other in document["alternatives"]])

    def test_the_device_budget_holds_and_may_be_a_share(self):
        path = self.machine()
        half = self.document("plan", valid(), "--profile", path, "--device-budget", "50%")["tiers"]["device"]
        self.assertEqual(half["budget_bytes"], 1 << 29)
        small = self.document("plan", valid(), "--profile", path, "--device-budget", "4KiB")
        self.assertEqual(small["tiers"]["device"]["planned_bytes"], 0)
        self.assertEqual({tensor["tier"] for tensor in small["tensors"]}, {"host"})
        unlimited = self.document("plan", valid(), "--profile", path, "--device-budget", "0")
        self.assertEqual(unlimited["tiers"]["device"]["budget_bytes"], 1 << 30)

    def test_for_another_machine_it_says_whose_memory_the_host_budget_is(self):
        path = self.machine(machine="another")
        self.assertIn("--host-budget", self.succeed("plan", valid(), "--profile", path).err)
        self.assertNotIn("--host-budget", self.succeed("plan", valid(), "--profile", path, "--host-budget", "64MiB").err)
        self.assertNotIn("--host-budget", self.succeed("plan", valid(), "--profile", self.machine()).err)

    def test_the_table_fits_a_screen_and_says_what_is_where(self):
        out = self.succeed("plan", valid(), "--profile", self.machine(), "--host-budget", "64MiB").out
        self.assertLessEqual(len(out.splitlines()), 28)
        self.assertLessEqual(max(map(len, out.splitlines())), 120)
        for word in ("device", "from disk", "over link", "other memory"):
            self.assertIn(word, out)

    def test_a_device_of_this_machine_is_measured_once_and_the_cpu_knows_nothing_of_it(self):
        cache = tool.options.scratch / "cache" / "profile.json"
        document = self.document("plan", valid(), "--device", self.DEVICE)
        self.assertEqual(document["tiers"]["device"]["budget_bytes"], (64 << 20) // 10 * 9)
        kept = cache.read_text()
        self.document("plan", valid(), "--device", self.DEVICE)
        self.assertEqual(cache.read_text(), kept)
        self.assertEqual(self.document("plan", valid())["tiers"]["device"]["budget_bytes"], 0)
        self.assertNotIn("device", self.document("profile"))
        self.document("plan", valid(), "--device", "emulated:memory=32MiB,link=4GB/s")
        self.assertNotEqual(cache.read_text(), kept)

    def test_a_device_budget_without_a_device_and_a_device_beside_a_profile_are_refused(self):
        self.refuse(INVALID_ARGUMENT, "plan", valid(), "--device-budget", "1MiB", naming="--device-budget")
        self.refuse(USAGE, "plan", valid(), "--profile", self.machine(), "--device", self.DEVICE, naming="--device")
        for device in ("gpu", "emulated:memory=256MiB"):
            self.refuse(INVALID_ARGUMENT, "plan", valid(), "--device", device, naming="--device")

    def test_a_profile_of_a_device_without_its_threads_plans_as_if_it_were_not_there(self):
        path = self.machine(device_threads=0)
        self.assertEqual(self.document("plan", valid(), "--profile", path)["tiers"]["device"]["planned_bytes"], 0)


class Profile(ToolTest):
    def test_it_is_measured_once_and_kept(self):
        cache = tool.options.scratch / "cache" / "profile.json"
        cache.unlink(missing_ok=True)
        first = self.document("profile", "--disk", valid())
        self.assertTrue(cache.exists())
        second = self.document("profile", "--disk", valid())
        self.assertEqual(first, second)
        self.assertEqual(list(cache.parent.glob("profile.json.*")), [])
        rates = [value for value in first.values() if isinstance(value, dict)]
        self.assertGreaterEqual(len(rates), 6)
        for rate in rates:
            self.check_fields(rate, {"per_s": 0.0, "spread": 0.0, "how": ""})
        stored = json.loads(cache.read_text())
        stored["machine"] = "another one"
        cache.write_text(json.dumps(stored))
        self.document("profile", "--disk", valid())
        self.assertNotEqual(json.loads(cache.read_text())["machine"], "another one")

    def test_a_device_is_measured_with_its_link(self):
        device = "emulated:memory=64MiB,link=500MB/s"
        profile = self.document("profile", "--device", device)
        self.assertEqual(profile["device_memory_bytes"], 64 << 20)
        for rate in ("h2d_bytes", "d2h_bytes"):
            self.assertGreater(profile[rate]["per_s"], 1e6)
            self.assertLessEqual(profile[rate]["per_s"], 500e6)
        self.assertGreater(profile["device_stream_bytes"]["per_s"], 0)
        self.assertGreater(profile["device_step_overhead_us"], 0)
        self.assertGreater(profile["host_stream_bytes_busy"]["per_s"], 0)
        self.assertIn("host to device", self.succeed("profile", "--device", device).out)
        self.refuse(INVALID_ARGUMENT, "profile", "--device", "emulated:memory=64MiB", naming="link")
        self.refuse(INVALID_ARGUMENT, "profile", "--device", "emulated:memory=64,link=1GB/s", naming="with a unit")

    def test_another_number_of_threads_is_another_machine(self):
        self.assertEqual(self.document("profile", "--threads", "1")["threads"], 1)

    def test_a_cache_that_cannot_be_written_is_a_remark(self):
        blocked = tool.options.scratch / "blocked"
        blocked.write_text("a file where a folder should be")
        process = subprocess.run([tool.options.tool, "profile", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**tool.environment(), "OUTRIGGER_CACHE": str(blocked)})
        self.assertEqual(process.returncode, 0)
        self.assertIn(b"cannot be kept", process.stderr)
        json.loads(process.stdout)


if __name__ == "__main__":
    tool.main()
