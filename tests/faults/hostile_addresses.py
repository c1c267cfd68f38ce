"""
Clone addresses of an attacker, made systematically: they would connect to a trap's port, and run a canary's command.
"""
# ruff: noqa: RUF001, E501, S104 - letters that look like others and the address of all interfaces are what this file is of

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LISTED = "code.example.com"


def hostile_addresses(port: int, canary: Path) -> list[tuple[str, str]]:
    """Make them, each with its kind; none twice."""
    touch = f"touch {canary}"
    made = {
        **dict.fromkeys(_options(touch, port), "option"),
        **dict.fromkeys(_helpers(touch, port), "remote helper"),
        **dict.fromkeys(_schemes(port), "scheme"),
        **dict.fromkeys(_files(port), "file"),
        **dict.fromkeys(_ssh(touch, port), "ssh"),
        **dict.fromkeys(_users(port), "user"),
        **dict.fromkeys(_numbers(port), "form of an internal address"),
        **dict.fromkeys(_look_alikes(port), "look-alike"),
        **dict.fromkeys(_controls(port), "control character"),
        **dict.fromkeys(_paths(touch), "path"),
    }
    return [(kind, address) for address, kind in made.items()]


def _options(touch: str, port: int) -> Iterator[str]:
    for option in (
        f"--upload-pack={touch};", f"--upload-pack={touch}; https://{LISTED}/a/b", f"-u{touch};", f"--exec={touch}",
        f"--config=core.sshCommand={touch}", f"-ccore.fsmonitor={touch}", "-cprotocol.ext.allow=always",
        "--template=/tmp", "--separate-git-dir=/tmp/x", "--reference=/tmp/x", "--recurse-submodules", "--output=/tmp/x",
        "--help", "--", "-", f"--server-option={touch}", f"--bundle-uri=http://127.0.0.1:{port}/b",
        f"--upload-pack={touch}\thttps://{LISTED}/a/b",
    ):  # fmt: skip
        yield option
        yield f" {option}"


def _helpers(touch: str, port: int) -> Iterator[str]:
    command = touch.replace(" ", "% ")
    for name in ("ext", "EXT", "fd", "https::ext", "file::ext", "transport"):
        yield f"{name}::{command}"
        yield f"{name}::sh -c {command} #https://{LISTED}/a/b"
    yield f"http::http://127.0.0.1:{port}/a/b"
    yield f"https::https://127.0.0.1:{port}/a/b"
    yield f"https://{LISTED}::{command}"
    yield f"ext://{command}"


def _schemes(port: int) -> Iterator[str]:
    names = (
        "http", "HTTP", "git", "ssh", "git+ssh", "ssh+git", "git+https", "git+http", "ftp", "ftps", "rsync", "svn", "hg",
        "ws", "wss", "dict", "gopher", "ldap", "telnet", "tftp", "smb", "sftp", "data", "javascript", "view-source:https",
        "https+insecure", "httpss", "//https", "",
    )  # fmt: skip
    for name in names:
        yield f"{name}://127.0.0.1:{port}/a/b"
    yield f"http://{LISTED}/a/b"
    yield f"git://{LISTED}/a/b"


def _files(port: int) -> Iterator[str]:
    yield from ("file:///etc", "file://localhost/etc", "FILE:///etc", "file:/etc", "file:etc", "./x.git", "../x.git")
    yield from ("~/x.git", "~root/x.git", ".", "..", "x.git", "", "/", "/etc", "/proc/self/root", "/dev/stdin", "C:\\x")
    yield from (
        f"//127.0.0.1:{port}/x",
        f"\\\\127.0.0.1\\{port}",
        "/tmp/../etc",
        "/etc\n",
        "/etc/passwd",
        "$HOME/x.git",
    )


def _ssh(touch: str, port: int) -> Iterator[str]:
    for host in (
        f"-oProxyCommand={touch}",
        f"x@-oProxyCommand={touch}",
        f"-oPermitLocalCommand=yes -oLocalCommand={touch}",
    ):
        yield f"ssh://{host}/a/b"
        yield f"{host}:a/b"
        yield f"git+ssh://{host}/a/b"
    yield from (
        f"git@127.0.0.1:{port}/a",
        f"[127.0.0.1:{port}]:a/b",
        f"git@{LISTED}:a/b",
        f"ssh://git@{LISTED}:{port}/a/b",
    )


def _users(port: int) -> Iterator[str]:
    trap = f"127.0.0.1:{port}"
    for between in (
        "@",
        ":443@",
        ":x@",
        "%40",
        "#@",
        "?@",
        "\\@",
        "%23@",
        "%2f@",
        ";@",
        "&@",
        "%00@",
        "%0d%0a@",
        " @",
        "@x@",
    ):
        yield f"https://{LISTED}{between}{trap}/a/b"
    yield from (f"https://user:secret@{LISTED}/a/b", f"https://:@{LISTED}/a/b", f"https://@{LISTED}/a/b")


def _numbers(port: int) -> Iterator[str]:
    loopback = (
        "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "0", "0.0.0.0",
        "127.127.127.127", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%25lo]",
        "127.0.0.1.", "localhost", "LOCALHOST", "localhost.", "localhost.localdomain", "ip6-localhost", "127.0.0.1.nip.io",
        "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "127.0.0.1%2f", "%31%32%37.0.0.1",
    )  # fmt: skip
    metadata = (
        "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]", "[fd00:ec2::254]",
        "metadata.google.internal", "100.100.100.200", "168.63.129.16", "169.254.169.254.nip.io", "10.0.0.1", "192.168.0.1",
    )  # fmt: skip
    for host in loopback:
        yield f"https://{host}:{port}/a/b"
    for host in metadata:
        yield f"https://{host}/metadata/instance"


def _look_alikes(port: int) -> Iterator[str]:
    for host in (
        f"{LISTED}.evil.test", f"{LISTED}.", f".{LISTED}", f"sub.{LISTED}", f"{LISTED}-evil.test", f"evil{LISTED}",
        "code-example.com", "codeexample.com", "code.example.co", "code.example.comm", "c0de.example.com",
        "с\u043ede.example.com", "ｃode.example.com", "code。example.com", "code．example.com", "co\u00adde.example.com",
        "code.example.ｃom", "xn--cde-uyd.example.com", f"{LISTED}%00.evil.test", f"{LISTED}%2eevil.test", f"{LISTED}\\.evil.test",
        f"{LISTED}:{port}", f"{LISTED}:0443", f"{LISTED}:+443", f"{LISTED}:443:{port}", f"{LISTED}:", f"{LISTED}:99999",
        f"{LISTED},127.0.0.1", f"{LISTED};127.0.0.1", f"{LISTED}&127.0.0.1", f"[{LISTED}]", "*", "*.example.com", "",
    ):  # fmt: skip
        yield f"https://{host}/a/b"


def _controls(port: int) -> Iterator[str]:
    for letter in (
        "\0",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\x1b",
        "\x7f",
        " ",
        "\u00a0",
        "\u2028",
        "\u200b",
        "\ufeff",
        "\u202e",
    ):
        yield f"{letter}https://{LISTED}/a/b"
        yield f"https://{LISTED}{letter}.evil.test/a/b"
        yield f"https://{LISTED}/a{letter}/b"
        yield f"https://{LISTED}/a/b{letter}"
    yield f"https://{LISTED}/a/b\nhttps://127.0.0.1:{port}/a/b"
    yield f"https://{LISTED}/a/b\r\nHost: 127.0.0.1:{port}"


def _paths(touch: str) -> Iterator[str]:
    for path in (
        "", "/", "a", "//a/b", "/a//b", "/a/b/", "/../a", "/a/../../b", "/a/.", "/%2e%2e/a", "/a%2fb", "/a%5cb", "/a%00b", "/a%0ab",
        "/a%252e", "/a%", "/a%zz", "/a?b", "/a/b?service=x", "/a#b", "/a\\b", "/a;b", "/a|b", "/a`b`", "/$(a)", f"/a;{touch}",
        "/-a/b", "/a/--upload-pack=x", "/a'b", '/a"b', "/<a>", "/a^b", "/{a}", "/ä", "/" + "a" * 5_000,
    ):  # fmt: skip
        yield f"https://{LISTED}{path}"
