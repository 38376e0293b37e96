"""What the scripts that make model files share: copying metadata, and writing tensors one after the other. Needs numpy, gguf."""
import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

PLAIN = {T.F32: np.dtype(np.float32), T.F16: np.dtype(np.float16), T.I8: np.dtype(np.int8)}


def value(reader, name):
    """The value of a metadata field."""
    return reader.fields[name].contents()


def copy_fields(reader, writer, skip=()):
    """Copies every metadata field but those in `skip` and those that the writer makes itself."""
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in skip:
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, field.contents())
        else:
            writer.add_key_value(name, field.contents(), field.types[0])


def add_llama_fields(writer, name, sizes, vocabulary_tokens, context_tokens, rope_base):
    """The metadata of a llama of sizes.layers, width, heads, kv_heads and ffn."""
    writer.add_name(name)
    writer.add_block_count(sizes.layers)
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(sizes.width)
    writer.add_feed_forward_length(sizes.ffn)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_rope_freq_base(rope_base)
    writer.add_rope_dimension_count(sizes.width // sizes.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary_tokens)


def llama_writer(options, reader, name):
    """A writer of options.target for a llama of the options' sizes, with the reader's vocabulary."""
    writer = gguf.GGUFWriter(options.target, "llama")
    copy_fields(reader, writer, skip={field for field in reader.fields if not field.startswith("tokenizer.")})
    add_llama_fields(writer, name, options, len(value(reader, "tokenizer.ggml.tokens")), context_tokens=8192, rope_base=100000.0)
    return writer


def write_streaming(writer, tensors):
    """Writes a file whose tensors need not fit into memory together.

    tensors: (name, shape of the stored array, its dtype, quantisation type, make); make() gives the array when its turn has come.
    """
    for name, shape, dtype, kind, _ in tensors:
        size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        writer.add_tensor_info(name, shape, np.dtype(dtype), size_bytes, raw_dtype=None if kind in PLAIN else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape, dtype, _, make in tensors:
        data = np.ascontiguousarray(make())
        if data.shape != tuple(shape) or data.dtype != dtype:
            raise SystemExit(f"{name}: announced {tuple(shape)} of {dtype}, made {data.shape} of {data.dtype}")
        writer.write_tensor_data(data)
    writer.close()
