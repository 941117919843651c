"""DOCX files: ordinary ones by python-docx, the others part by part and byte by byte."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import docx as python_docx

TRANSITIONAL = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STRICT_RELATIONS = "http://purl.oclc.org/ooxml/officeDocument/relationships"
MAIN_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
EPOCH = (1980, 1, 1, 0, 0, 0)


def docx(paragraphs: Sequence[str]) -> bytes:
    document = python_docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    buffer = io.BytesIO()
    document.save(buffer)
    with zipfile.ZipFile(buffer) as packed:
        return archive({name: packed.read(name) for name in packed.namelist()})


def archive(parts: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of the parts, with a fixed date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in parts.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = compression
            packed.writestr(entry, content, compresslevel=9 if compression == zipfile.ZIP_DEFLATED else None)
    return buffer.getvalue()


def body(inner: str, *, namespace: str = TRANSITIONAL, prolog: str = "") -> bytes:
    """A main part around `inner`."""
    compatibility = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{prolog}<w:document xmlns:w="{namespace}" xmlns:mc="{compatibility}">'
        f"<w:body>{inner}</w:body></w:document>"
    ).encode()


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def content_types(main: str = "word/document.xml", main_type: str = MAIN_TYPE) -> bytes:
    return (
        '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/{main}" ContentType="{main_type}"/></Types>'
    ).encode()


def relationships(*targets: tuple[str, str], external: Sequence[tuple[str, str]] = (), base: str = RELATIONS) -> bytes:
    """Pairs of a kind and a target."""
    found = "".join(
        f'<Relationship Id="r{n}" Type="{base}/{kind}" Target="{target}"/>' for n, (kind, target) in enumerate(targets)
    )
    found += "".join(
        f'<Relationship Id="e{n}" Type="{base}/{kind}" Target="{target}" TargetMode="External"/>'
        for n, (kind, target) in enumerate(external)
    )
    head = '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    return f"{head}{found}</Relationships>".encode()


def parts(
    main_part: bytes | None = None,
    *,
    main: str = "word/document.xml",
    main_type: str = MAIN_TYPE,
    base: str = RELATIONS,
) -> dict[str, bytes]:
    """The three parts that a DOCX cannot do without."""
    return {
        "[Content_Types].xml": content_types(main, main_type),
        "_rels/.rels": relationships(("officeDocument", main), base=base),
        main: body(paragraph("Some words")) if main_part is None else main_part,
    }


def with_parts(main_part: bytes | None = None, further: Mapping[str, bytes] | None = None, **options: str) -> bytes:
    return archive(parts(main_part, **options) | dict(further or {}))


def strict() -> bytes:
    return with_parts(body(paragraph("Strictly speaking"), namespace=STRICT), base=STRICT_RELATIONS)


def with_footnotes(footnotes: bytes) -> bytes:
    further = {
        "word/_rels/document.xml.rels": relationships(("footnotes", "footnotes.xml")),
        "word/footnotes.xml": footnotes,
    }
    return with_parts(further=further)


def declared(data: bytes, name: str, *, size: int, crc: int | None = None, method: int | None = None) -> bytes:
    """The archive with another unpacked size (CRC, method) for `name`, in its header and in the directory."""
    out = bytearray(data)
    for signature, crc_at, size_at, name_at in ((b"PK\x03\x04", 14, 22, 30), (b"PK\x01\x02", 16, 24, 46)):
        at = out.find(signature)
        while at >= 0:
            if out[at + name_at : at + name_at + len(name)] == name.encode():
                struct.pack_into("<L", out, at + size_at, size)
                if method is not None:
                    struct.pack_into("<H", out, at + crc_at - 6, method)
                if crc is not None:
                    struct.pack_into("<L", out, at + crc_at, crc)
            at = out.find(signature, at + 4)
    return bytes(out)


def end_record(data: bytes, **fields: int) -> bytes:
    """The archive with other numbers in its end record."""
    out = bytearray(data)
    names = ("disk", "first_disk", "here", "entries", "length", "offset")
    at = out.rfind(b"PK\x05\x06") + 4
    for name, form, where in zip(names, "HHHHLL", (0, 2, 4, 6, 8, 12), strict=True):
        if name in fields:
            struct.pack_into(f"<{form}", out, at + where, fields[name])
    return bytes(out)


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """The archive with another name of the same length, which zipfile itself would not write."""
    assert len(old) == len(new)
    return data.replace(old, new)


def flagged(data: bytes, name: str, *, flags: int = 0, mode: int | None = None) -> bytes:
    """The archive with more flags, or a Unix file mode, for `name` in the directory."""
    out = bytearray(data)
    at = out.find(b"PK\x01\x02")
    while at >= 0:
        if out[at + 46 : at + 46 + len(name)] == name.encode():
            struct.pack_into("<H", out, at + 8, struct.unpack_from("<H", out, at + 8)[0] | flags)
            if mode is not None:
                struct.pack_into("<L", out, at + 38, mode << 16)
        at = out.find(b"PK\x01\x02", at + 4)
    return bytes(out)


def zip64(data: bytes) -> bytes:
    """The archive with a Zip64 locator before its end record."""
    at = data.rfind(b"PK\x05\x06")
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 1)
    return data[:at] + locator + data[at:]


def many_entries(count: int) -> bytes:
    return archive(parts() | {f"x/{number}": b"" for number in range(count)})


def overlapping(count: int = 1_900) -> bytes:
    """Many directory entries for one and the same packed part (D. Fifield, 2019)."""
    data = archive(parts() | {"word/m.bin": b"\0" * 1_000_000})
    start = struct.unpack_from("<L", data, data.rfind(b"PK\x05\x06") + 16)[0]
    directory = data[start : data.rfind(b"PK\x05\x06")]
    entry = directory[directory.rfind(b"PK\x01\x02") :]
    copies = b"".join(entry.replace(b"m.bin", b"%05d" % number) for number in range(count))
    end = bytearray(data[data.rfind(b"PK\x05\x06") :])
    struct.pack_into("<HHL", end, 8, 4 + count, 4 + count, len(directory) + len(copies))
    return data[:start] + directory + copies + bytes(end)


def lying_part(mib: int, says: int) -> bytes:
    """A part of `mib` MiB that says it holds `says` bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(b"\0" * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    name = "word/media.bin"
    data = archive(parts() | {name: block * mib + b"\x03\x00"}, compression=zipfile.ZIP_STORED)
    return declared(data, name, size=says, crc=1, method=zipfile.ZIP_DEFLATED)


def many_paragraphs(count: int) -> bytes:
    """Empty paragraphs, and a comment of noise that keeps the ratio honest."""
    noise = random.Random(1).randbytes(200_000).hex()
    return with_parts(body(f"<!--{noise}-->" + "<w:p/>" * count))


def long_text(characters: int) -> bytes:
    """Paragraphs of words, `characters` in all, packed about 1 : 4."""
    rng = random.Random(1)
    words = [f"{rng.getrandbits(40):010x}" for _ in range(2_000)]
    inner: list[str] = []
    while characters > 0:
        line = " ".join(rng.choices(words, k=100))[: characters - 1]
        inner.append(paragraph(line))
        characters -= len(line) + 1
    return with_parts(body("".join(inner)))


def laughs() -> str:
    """The DOCTYPE of a billion laughs."""
    entities = '<!ENTITY l0 "ha">' + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f"<!DOCTYPE w:document [{entities}]>"
