#!/usr/bin/env python3
"""Writes a GGUF file's model in float32, for other engines' measurements against it: to_float32.py IN.gguf OUT.gguf. Needs numpy, gguf."""
import sys

import gguf
from gguf import GGMLQuantizationType as T

import gguf_copy


def in_float32(tensor):
    shape = [int(n) for n in reversed(tensor.shape)]
    return (tensor.name, shape, gguf_copy.PLAIN[T.F32], T.F32,
            lambda: gguf.dequantize(tensor.data, tensor.tensor_type).astype("float32").reshape(shape))


def main():
    source, target = sys.argv[1:]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, gguf_copy.value(reader, "general.architecture"))
    gguf_copy.copy_fields(reader, writer, skip={"general.file_type"})
    gguf_copy.write_streaming(writer, [in_float32(tensor) for tensor in reader.tensors])


main()
