"""YAML and JSON that is small as bytes and large, deep or odd as values."""

from __future__ import annotations

import json
from collections.abc import Iterator


def yaml_bombs() -> Iterator[tuple[str, bytes]]:
    """Documents of which no reader may take anything."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    yield "aliases", "\n".join(lines).encode()
    lines = ["a0: &a0 {k: x}"]
    lines += [f"a{n}: &a{n} {{" + ", ".join(f"k{i}: *a{n - 1}" for i in range(9)) + "}" for n in range(1, 12)]
    yield "mapping-aliases", "\n".join(lines).encode()
    merges = ["a0: &a0 {k: x, l: y}"]
    merges += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}" for n in range(1, 22)]
    yield "merges", "\n".join(merges).encode()
    yield "itself", b"a: &a [*a, *a]"
    yield "itself-as-key", b"a: &a {*a : 1}"
    yield "merges-itself", b"a: &a {<<: *a, b: 1}"
    yield "deep-flow", b"a: " + b"[" * 100_000
    yield "deep-mapping", b"a: " + b"{a: " * 20_000 + b"}" * 20_000
    yield "deep-block", b"\n".join(b" " * n + b"a:" for n in range(1, 600))
    yield "deep-list", b"a: " + b"- " * 50_000
    yield "twice", b"project: x\nproject: y\n"
    yield "tag", b"project: !!python/object/apply:os.system ['touch /tmp/evil']\n"
    yield "unknown-tag", b"project: !evil x\n"
    yield "list-as-key", b"? [a, b]\n: c\n"
    yield "mapping-as-key", b"? {a: b}\n: c\n"
    yield "not-utf-8", b"project: \xff\xfe\n"
    yield "controls", b"project: \x00\x01\x1b\n"
    yield "surrogates", b'project: "\\ud800"\n'
    yield "surrogate-key", b'"\\ud800": x\n'
    yield "many-documents", b"---\na: 1\n" * 5_000
    yield "long-scalar", b"project: " + b"a" * 5_000_000
    yield "many-keys", b"\n".join(b"k%d: {a: [1, 2, 3, 4, 5, 6, 7, 8, 9]}" % n for n in range(30_000))
    yield "huge-number", b"project: " + b"9" * 100_000
    yield "sexagesimal", b"project: 1" + b":59" * 80_000
    yield "odd-date", b"project: 2026-99-99\n"
    yield "unclosed", b'project: "' + b"\\n" * 100_000
    yield "comments", b"#" * 10 + b"\n#" * 100_000


def json_bombs() -> Iterator[tuple[str, bytes]]:
    """Webhook bodies."""
    yield "deep-lists", b"[" * 20_000_000
    yield "deep-objects", b'{"a":' * 4_000_000
    yield "deep-within-limits", b'{"a":' * 90_000 + b"1" + b"}" * 90_000
    yield "many-objects", b'{"commits":[' + b'{"":0},' * 3_500_000 + b"{}]}"
    yield "many-lists", b'{"commits":[' + b"[]," * 8_000_000 + b"[]]}"
    yield "many-numbers", b'{"commits":[' + b"0," * 12_000_000 + b"0]}"
    yield "huge-number", b'{"ref":' + b"9" * 5_000_000 + b"}"
    yield "infinity", b'{"ref":1e999999, "after": NaN}'
    yield "cut", json.dumps({"ref": "refs/heads/main"}).encode()[:-1]
    yield "not-utf-8", b'{"ref":"\xff"}'
    yield "utf-16", json.dumps({"ref": "x"}).encode("utf-16")
    yield "a-list", b"[{}]"
    yield "a-text", b'"' + b"\\u0000" * 1_000_000 + b'"'


def harmless_json() -> Iterator[tuple[str, bytes]]:
    """Odd bodies that are JSON: what is in them is refused, or not, further on."""
    yield "many-keys", b"{" + b",".join(b'"k%d":0' % n for n in range(500_000)) + b"}"
    yield "twice", b"{" + b'"ref":"a",' * 400_000 + b'"ref":"b"}'
    yield "surrogates", b'{"ref":"' + b"\\ud800" * 1_000_000 + b'"}'
    yield "long-text", b'{"ref":"' + b"a" * 24_000_000 + b'"}'
