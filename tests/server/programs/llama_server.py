"""llama.cpp's server on a tiny model with random weights: llama_server.py FOLDER PORT.

Writes FOLDER/tiny.gguf: a llama of two layers whose tokens are bytes and single letters.
"""

import sys
import threading
from pathlib import Path

import gguf
import numpy
import xllamacpp

WIDTH, INNER, LAYERS, HEADS, CONTEXT = 64, 128, 2, 4, 2048
SPECIAL = [b"<unk>", b"<s>", b"</s>"]
UNKNOWN, CONTROL, NORMAL, BYTE = 2, 3, 1, 6  # llama.cpp's kinds of tokens


def write_model(path):
    """The same weights each time."""
    letters = ["\u2581", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM"]
    pieces = [f"<0x{number:02X}>".encode() for number in range(256)]
    tokens = [*SPECIAL, *pieces, *(letter.encode() for letter in letters)]
    made = gguf.GGUFWriter(path, "llama")
    made.add_context_length(CONTEXT)
    made.add_embedding_length(WIDTH)
    made.add_block_count(LAYERS)
    made.add_feed_forward_length(INNER)
    made.add_head_count(HEADS)
    made.add_head_count_kv(HEADS)
    made.add_rope_dimension_count(WIDTH // HEADS)
    made.add_layer_norm_rms_eps(1e-5)
    made.add_vocab_size(len(tokens))
    made.add_tokenizer_model("llama")
    made.add_token_list(tokens)
    made.add_token_scores([0.0] * 259 + [-float(at) for at in range(len(letters))])
    made.add_token_types([UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(letters))
    made.add_bos_token_id(1)
    made.add_eos_token_id(2)
    made.add_unk_token_id(0)
    chance = numpy.random.default_rng(0)

    def add(name, *shape):
        values = (chance.standard_normal(shape) * 0.05).astype(numpy.float32)
        made.add_tensor(name, values if len(shape) > 1 else numpy.ones(shape, numpy.float32))

    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    add("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}.{name}.weight", WIDTH, WIDTH)
        add(f"{block}.ffn_gate.weight", INNER, WIDTH)
        add(f"{block}.ffn_up.weight", INNER, WIDTH)
        add(f"{block}.ffn_down.weight", WIDTH, INNER)
        add(f"{block}.attn_norm.weight", WIDTH)
        add(f"{block}.ffn_norm.weight", WIDTH)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


def main():
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    model = folder / "tiny.gguf"
    write_model(str(model))
    wishes = xllamacpp.CommonParams()
    wishes.model.path = str(model)
    wishes.model_alias = {"tiny"}
    wishes.hostnames = ["127.0.0.1"]
    wishes.port = port
    wishes.n_ctx = CONTEXT
    wishes.n_parallel = 1
    wishes.cpuparams.n_threads = 1
    wishes.warmup = False
    server = xllamacpp.Server(wishes)
    print(f"listening on {server.listening_address}", flush=True)
    threading.Event().wait()


main()
