#!/usr/bin/env python3
"""Answers one prompt with at most 64 MiB of memory for the model, whatever the model's size: generate.py MODEL.gguf [PROMPT]

Needs nothing but Python and the C library, which is found by --library FILE, the environment variable OUTRIGGER_LIBRARY, or the loader.
"""
import argparse
import ctypes as c
import os
import sys


class Struct(c.Structure):
    """Each struct of the C API begins with its size."""

    def __init__(self):
        super().__init__()
        self.struct_size = c.sizeof(self)


class Error(Struct):
    _fields_ = [("struct_size", c.c_uint32), ("status", c.c_int32), ("needed_bytes", c.c_uint64), ("given_bytes", c.c_uint64),
                ("byte_offset", c.c_uint64), ("message", c.c_char * 512), ("subject", c.c_char * 128), ("file", c.c_char * 512)]


class ChatMessage(c.Structure):
    _fields_ = [("role", c.c_char_p), ("content", c.c_char_p), ("content_bytes", c.c_size_t)]


class PlanOptions(Struct):
    _fields_ = [("struct_size", c.c_uint32), ("threads", c.c_uint32), ("host_budget_bytes", c.c_uint64), ("device_budget_bytes", c.c_uint64)]
    _fields_ += [(name, c.c_uint32) for name in ("prompt_tokens", "new_tokens", "batch", "context_tokens", "logit_rows", "kv_type")]


class GenerateOptions(Struct):
    OnToken = c.CFUNCTYPE(c.c_int32, c.c_void_p, c.c_int32, c.POINTER(c.c_char), c.c_size_t)
    _fields_ = [("struct_size", c.c_uint32), ("max_tokens", c.c_uint32), ("sampling", c.c_void_p), ("stop", c.c_void_p),
                ("stop_count", c.c_size_t), ("ignore_eos", c.c_int32), ("reserved", c.c_uint32), ("on_token", OnToken),
                ("prefill_progress", c.c_void_p), ("user", c.c_void_p), ("cancel", c.c_void_p)]


class GenerateResult(Struct):
    _fields_ = [("struct_size", c.c_uint32), ("stop_reason", c.c_int32)]
    _fields_ += [(name, c.c_uint64) for name in ("prompt_tokens", "generated_tokens", "text_bytes")]
    _fields_ += [(name, c.c_double) for name in ("prefill_ms", "prefill_tokens_per_s", "time_to_first_token_ms", "decode_ms",
                                                 "decode_tokens_per_s")]


class MemoryReport(Struct):
    _fields_ = [("struct_size", c.c_uint32), ("tier", c.c_int32)]
    _fields_ += [(name + "_bytes", c.c_uint64) for name in ("budget", "planned", "current", "peak", "weights_resident", "stream_slots",
                                                            "kv_cache", "activations", "draft", "branches", "other", "experts")]


class Outrigger:
    """Calls by name: outrigger.model_open(...) is otr_model_open(..., &error), and raises what the library says."""

    TIER_HOST = 1

    def __init__(self, path):
        self.library = c.CDLL(path)
        if self.library.otr_abi_version() != 0:
            raise RuntimeError("this program was written for version 0 of the library's binary interface")

    def __getattr__(self, name):
        function = getattr(self.library, "otr_" + name)

        def call(*arguments):
            error = Error()
            if function(*arguments, c.byref(error)) != 0:
                raise RuntimeError(error.message.decode())

        return call

    def make(self, name, *arguments):
        """The handle that a call makes: its last parameter before the error."""
        handle = c.c_void_p()
        getattr(self, name)(*arguments, c.byref(handle))
        return handle

    def options(self, name, kind):
        """Options with their defaults."""
        options = kind()
        getattr(self.library, f"otr_{name}_options_init")(c.byref(options), c.c_uint32(c.sizeof(options)))
        return options

    def text(self, name, handle):
        """A call that writes text: once for its length, once for the text."""
        size = c.c_size_t()
        getattr(self, name)(handle, None, c.c_size_t(0), c.byref(size))
        buffer = c.create_string_buffer(size.value + 1)
        getattr(self, name)(handle, buffer, c.c_size_t(len(buffer)), c.byref(size))
        return buffer.raw[:size.value].decode()


@GenerateOptions.OnToken
def print_text(_user, _token, text, size):
    sys.stdout.buffer.write(c.string_at(text, size))
    sys.stdout.flush()
    return 0  # go on


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("prompt", nargs="?", default="What is the capital of France, and what is it known for?")
    parser.add_argument("--library", default=os.environ.get("OUTRIGGER_LIBRARY", "liboutrigger_c.so.0"))
    arguments = parser.parse_args()
    outrigger = Outrigger(arguments.library)

    # Opening reads the header only.
    model = outrigger.make("model_open", arguments.model.encode(), None)
    prompt = arguments.prompt.encode()
    message = ChatMessage(b"user", prompt, len(prompt))
    tokens, count = (c.c_int32 * 512)(), c.c_size_t()
    outrigger.model_chat(model, c.byref(message), c.c_size_t(1), None, tokens, c.c_size_t(len(tokens)), c.byref(count))

    # Decide first: what stays in memory, what streams from disk, what that will cost. No weight is read for it.
    workload = outrigger.options("plan", PlanOptions)
    workload.host_budget_bytes = 64 << 20
    workload.prompt_tokens, workload.new_tokens = count.value, 64
    plan = outrigger.make("plan_make", model, None, c.byref(workload))
    print(outrigger.text("plan_to_text", plan), flush=True)

    # Then run: the engine takes what the plan says, and never more.
    engine = outrigger.make("engine_open", model, plan, None)
    session = outrigger.make("session_open", engine, None)
    options = outrigger.options("generate", GenerateOptions)
    options.max_tokens, options.on_token = workload.new_tokens, print_text
    result, memory = GenerateResult(), MemoryReport()
    outrigger.session_generate(session, tokens, count, c.byref(options), c.byref(result))
    outrigger.engine_get_memory(engine, c.c_int32(Outrigger.TIER_HOST), c.byref(memory))
    print(f"\n\n{result.generated_tokens} tokens, {result.decode_tokens_per_s:.1f} per second")
    print(f"memory: budget {memory.budget_bytes / 2**20:.1f} MiB, planned {memory.planned_bytes / 2**20:.1f} MiB, "
          f"peak {memory.peak_bytes / 2**20:.1f} MiB")

    for kind, handle in (("session", session), ("engine", engine), ("plan", plan), ("model", model)):
        getattr(outrigger.library, f"otr_{kind}_close")(c.byref(handle))


if __name__ == "__main__":
    main()
