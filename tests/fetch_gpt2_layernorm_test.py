#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/fetch-gpt2-layernorm against servers on the loopback interface: one that supports ranges, and bad ones."""
import functools
import http.server
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "fetch-gpt2-layernorm"
SHARED = pathlib.Path(os.environ.get("SCALEDOT_SHARED_DIR", ROOT.parent / "shared"))
RECORDED = SHARED / "data" / "gpt2-layernorm.safetensors"


def parse(content):
    """name -> (dtype, shape, bytes), and the metadata, of a safetensors file; checks that it is a valid one."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    metadata = header.pop("__metadata__", {})
    data, tensors, at = content[8 + length:], {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        assert begin == at <= end, name
        tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])
        at = end
    assert at == len(data)
    return tensors, metadata


def build(tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def layer_norms():
    """GPT-2's 50 LayerNorm tensors, random ones where the recorded file is absent."""
    if RECORDED.exists():
        return parse(RECORDED.read_bytes())[0]
    print(f"{RECORDED} is absent: random parameters take its place", file=sys.stderr)
    chance = random.Random(1)
    modules = [f"h.{layer}.ln_{i}" for layer in range(12) for i in (1, 2)] + ["ln_f"]
    return {f"{module}.{part}": ("F32", [768], chance.randbytes(3072)) for module in modules for part in ("bias", "weight")}


@functools.cache
def checkpoint():
    """A file laid out as GPT-2's, with smaller matrices: what a layer has in the order of its names."""
    norms = layer_norms()
    matrix = random.Random(2).randbytes(512 * 512 * 4)
    tensors = {}
    for layer in range(12):
        h = f"h.{layer}"
        tensors[f"{h}.attn.bias"] = ("F32", [1, 1, 512, 512], matrix)
        tensors[f"{h}.attn.c_attn.bias"] = ("F32", [768], bytes(3072))
        tensors[f"{h}.attn.c_attn.weight"] = ("F32", [512, 512], matrix)
        for name in (f"{h}.ln_1.bias", f"{h}.ln_1.weight", f"{h}.ln_2.bias", f"{h}.ln_2.weight"):
            tensors[name] = norms[name]
        tensors[f"{h}.mlp.c_fc.weight"] = ("F32", [512, 512], matrix)
    tensors["ln_f.bias"], tensors["ln_f.weight"] = norms["ln_f.bias"], norms["ln_f.weight"]
    tensors["wte.weight"] = ("F32", [512, 512], matrix)
    return build(tensors)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests += 1
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/model.safetensors")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fault = server.fault(server.requests)
        if isinstance(fault, int):
            self.send_error(fault)
            return
        content = server.content
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        begin, last = int(match[1]), min(int(match[2]), len(content) - 1)
        body = content[begin:last + 1]
        stated = f"bytes {begin}-{last}/{len(content)}"
        if fault == "no ranges":
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return
        if fault == "other range":
            stated = f"bytes {begin + 1}-{last + 1}/{len(content)}"
        if fault == "growing":
            stated = f"bytes {begin}-{last}/{len(content) + server.requests}"
        self.send_response(206)
        if fault != "no content range":
            self.send_header("Content-Range", stated)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "cut":
            body, self.close_connection = body[:len(body) // 2], True
        server.sent += len(body)  # before the client may ask for more
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class FetchTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = pathlib.Path(directory.name) / "out.safetensors"

    def fetch(self, content=None, fault=lambda request: None, path="/model.safetensors", output=None, options=()):
        """Serves the content, each request with the fault of its number, and runs the script on it."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.content, server.fault, server.requests, server.sent = content or checkpoint(), fault, 0, 0
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
            result = subprocess.run(
                [sys.executable, SCRIPT, output or self.output, "--url", f"http://127.0.0.1:{server.server_port}{path}",
                 "--retry-delay", "0.01", "--timeout", "10", *options],
                capture_output=True, text=True, timeout=60, env=environment)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        self.sent, self.requests = server.sent, server.requests
        return result

    def refused(self, result, *words):
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertTrue(result.stderr.splitlines()[-1].startswith("fetch-gpt2-layernorm: "), result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(list(self.output.parent.iterdir()), [], "a failed run left a file")

    def test_fetches_exactly_the_layer_norm_tensors_and_little_else(self):
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stderr)
        tensors, metadata = parse(self.output.read_bytes())
        self.assertEqual(tensors, layer_norms())
        self.assertEqual(len(tensors), 50)
        self.assertIn("127.0.0.1", metadata["source"])
        self.assertLess(self.sent, 250_000)
        self.assertLess(self.sent * 100, len(checkpoint()))
        self.assertEqual(self.requests, 2 + 13, "neighbours come in one request")
        self.assertIn(f"{self.sent} transferred", result.stdout)

    def test_follows_redirects(self):
        result = self.fetch(path="/moved")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(parse(self.output.read_bytes())[0], layer_norms())

    def test_replaces_an_older_file(self):
        self.output.write_text("old")
        self.assertEqual(self.fetch().returncode, 0)
        self.assertEqual(len(parse(self.output.read_bytes())[0]), 50)

    def test_tries_again_after_a_passing_failure(self):
        for fault in (503, 429, "cut"):
            with self.subTest(fault=fault):
                result = self.fetch(fault=lambda request: fault if request in (1, 4) else None)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(parse(self.output.read_bytes())[0], layer_norms())

    def test_gives_up_on_a_lasting_failure(self):
        self.refused(self.fetch(fault=lambda request: 503), "503", "(4 attempts)")
        self.assertEqual(self.requests, 4)
        self.refused(self.fetch(fault=lambda request: "cut"), "(4 attempts)")
        self.refused(self.fetch(fault=lambda request: 404), "404")
        self.assertEqual(self.requests, 1)

    def test_refuses_a_server_without_ranges(self):
        self.refused(self.fetch(fault=lambda request: "no ranges"), "answered 200", "must answer 206")
        self.assertEqual(self.requests, 1)

    def test_refuses_another_range_than_it_asked_for(self):
        self.refused(self.fetch(fault=lambda request: "other range"), "Content-Range was 'bytes 1-8/")
        self.refused(self.fetch(fault=lambda request: "no content range"), "Content-Range was ''")
        self.refused(self.fetch(fault=lambda request: "growing"), "size changed")

    def test_refuses_a_hostile_header(self):
        def header(text, length=None):
            return struct.pack("<Q", len(text) if length is None else length) + text + bytes(8)

        def entry(name="ln_f.weight", dtype="F32", shape="[2]", offsets="[0,8]"):
            return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'

        def one(**fields):
            return header(f"{{{entry(**fields)}}}".encode())

        self.assertEqual(self.fetch(one()).returncode, 0)
        self.output.unlink()
        for content, words in [
            (header(b"{}", 2**63), "header length is 9223372036854775808"),
            (header(b"{}", 0), "header length is 0"),
            (header(b"{}", 100), "header length is 100"),
            (header(b"{}"), "no LayerNorm tensor"),
            (header(b"{x"), "not valid JSON"),
            (header(b'{"\xff":1}'), "not valid JSON"),
            (header(b"[" * 200_000), "not valid JSON"),
            (header(b"[]"), "must be a JSON object"),
            (header(f"{{{entry()},{entry()}}}".encode()), "comes twice"),
            (header(b'{"ln_f.weight":7}'), "must have dtype"),
            (one(shape="[-2]"), "shape must be"),
            (one(shape="[true]"), "shape must be"),
            (one(shape="[3]"), "does not fill"),
            (one(offsets="[8,0]"), "outside"),
            (one(offsets="[0,9]"), "outside"),
            (one(offsets="[0]"), "two counts"),
            (one(offsets="[0,1e3]"), "two counts"),
            (one(shape="[2,1]"), "no LayerNorm tensor"),
            (one(dtype="I64", shape="[1]"), "no LayerNorm tensor"),
            (one(name="attn.bias"), "no LayerNorm tensor"),
            (header(f'{{{entry()},{entry(name="ln_f.bias")}}}'.encode()), "overlaps"),
        ]:
            with self.subTest(words=words, content=content[:100]):
                self.refused(self.fetch(content), words)

    def test_says_when_it_cannot_write_or_connect(self):
        self.refused(self.fetch(output=self.output.parent / "missing" / "out"), "cannot write")
        for url, words in (("http://127.0.0.1:1/", "attempts"), ("file:///etc/hostname", "must be an http or https")):
            self.refused(self.fetch(options=("--url", url)), words)


if __name__ == "__main__":
    unittest.main()
