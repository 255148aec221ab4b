"""Change valid inputs as damage and malice do: bytes, JSON, lines of TOML, parts of archives.

Every function takes a ``random.Random``, so that a seed gives the same input for ever.
"""

import functools
import io
import json
import operator
import re
import struct
import warnings
import zipfile
import zlib

NUMBERS = (b"\0", b"\xff", b"\x7f", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff" * 8, b"\0" * 8)
# As they stand in JSON; most stand in TOML, too.
TOKENS = (
    *("null", "true", "-1", "0", "1e308", "1e999", "-1e999", "NaN", "Infinity", "1" * 25),
    *("9" * 5000, "1.5", "[]", "{}", '""', '"x"', '"../../../x"', '"/etc/passwd"', "[[]]"),
    *("[" * 60 + "]" * 60, "[" * 100_000, '{"a":' * 300 + "1" + "}" * 300, '"' + "a" * 300 + '"'),
    *('"' + "b" * 100_000 + '"', r'"\u0000"', r'"\u001b]0;x\u0007"', r'"\ud800"', r'"\u202e"'),
    *('"$\\\\x$"', '"<script>"', '"a\\nb"', "[1, 2, 3]", "2147483648", "18446744073709551616"),
    *("1979-05-27", "inf", "nan", "'''x'''", "{a = 1}", "[{}]", "0x7fffffffffffffffffff"),
)
NAMES = ("x", "", "..", "../x", "a\0b", "\x1b[31m", "\u202e", "key", "k" * 300, "method", "spec")
MOST_CHANGES = 4


def some_bytes(draw, content, others=()):
    """Return bytes of which a few were changed, cut, doubled, moved or put in."""
    found = bytearray(content)
    for _ in range(draw.randint(1, MOST_CHANGES)):
        place = draw.randrange(len(found) + 1)
        length = min(len(found) - place, draw.choice((1, 1, 2, 4, 8, 64, 4096)))
        change = draw.choice(CHANGES_OF_BYTES)
        if change is _flip_a_bit and not length:  # there is no bit behind the end
            change = _go_on_as_another
        change(draw, found, slice(place, place + length), others)
    return bytes(found)


def _flip_a_bit(draw, found, part, others):
    found[part.start] ^= 1 << draw.randrange(8)


def _overwrite(draw, found, part, others):
    found[part] = draw.randbytes(part.stop - part.start)


def _write_a_number(draw, found, part, others):
    number = draw.choice(NUMBERS)
    found[part.start : part.start + len(number)] = number


def _cut_out(draw, found, part, others):
    del found[part]


def _repeat(draw, found, part, others):
    found[part.start : part.start] = bytes(found[part]) * draw.choice((1, 2, 100))


def _cut_off(draw, found, part, others):
    del found[part.start :]


def _put_in(draw, found, part, others):
    found[part.start : part.start] = draw.randbytes(draw.choice((1, 8, 200)))


def _go_on_as_another(draw, found, part, others):
    if others:
        other = draw.choice(others)
        start = draw.randrange(len(other) + 1)
        found[part.start :] = other[start:]


# What may be done to a part of some bytes; a seed stands for an input as long as their order stays.
CHANGES_OF_BYTES = (
    *(_flip_a_bit, _overwrite, _write_a_number, _cut_out),
    *(_repeat, _cut_off, _put_in, _go_on_as_another),
)


def places(data, above=()):
    """Return the path of every value in nested data."""
    if isinstance(data, dict):
        inner = data.items()
    else:
        inner = enumerate(data) if isinstance(data, list) else ()
    return [path for key, v in inner for path in ((*above, key), *places(v, (*above, key)))]


def some_json(draw, content, others=()):
    """Return JSON with a few values replaced, dropped, added or moved."""
    if draw.random() < 0.2:
        return some_bytes(draw, content, others)
    data, tokens = json.loads(content), {}
    for number in range(draw.randint(1, MOST_CHANGES)):
        there = places(data)
        if not there:
            break
        *above, last = draw.choice(there)
        name, token = f"token {number}", draw.choice(TOKENS)
        tokens[json.dumps(name)] = token
        _change_a_value(draw, functools.reduce(operator.getitem, above, data), last, name)
    text = json.dumps(data)
    for name, token in tokens.items():
        text = text.replace(name, token)
    return text.encode("utf-8", "surrogatepass")


def _change_a_value(draw, holder, place, name):
    """Replace, drop, add or repeat the value at a place of an object or a list."""
    how = draw.randrange(4)
    if how == 0:
        del holder[place]
    elif how == 1 and isinstance(holder, dict):
        holder[draw.choice(NAMES)] = name
    elif how == 2 and isinstance(holder, list):
        holder.extend([holder[place]] * draw.choice((1, 1000)))
    else:
        holder[place] = name


def some_toml(draw, content, others=()):
    """Return TOML with a few lines changed, dropped, doubled or put in."""
    if draw.random() < 0.2:
        return some_bytes(draw, content, others)
    lines = content.decode().split("\n")
    for _ in range(draw.randint(1, MOST_CHANGES)):
        place = draw.randrange(len(lines))
        key, sign, value = lines[place].partition("=")
        how = draw.randrange(6)
        if how == 0 and sign:
            lines[place] = f"{key}= {draw.choice(TOKENS)}"
        elif how == 1 and sign:
            number = draw.choice(("0", "-1", "1" * 25, "2147483647", "1e308", "1e-320"))
            lines[place] = f"{key}={re.sub('[0-9.]+', number, value, count=1)}"
        elif how == 2:
            del lines[place]
            lines = lines or [""]
        elif how == 3:
            lines[place:place] = [lines[place]] * draw.choice((1, 2, 300))
        elif how == 4:
            name = json.dumps(draw.choice(NAMES))
            lines.insert(
                place, draw.choice((f"{name} = {draw.choice(TOKENS)}", f"[{name}]", "a.b.c=1"))
            )
        else:
            other = draw.choice(others or (content,)).decode().split("\n")
            lines.insert(place, draw.choice(other))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def some_png(draw, content, others=()):
    """Return a PNG file with a chunk changed, doubled or moved; its checksums are right."""
    if not content.startswith(b"\x89PNG") or draw.random() < 0.3:
        return some_bytes(draw, content, others)
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    number = draw.randrange(len(chunks))
    name, inside = chunks[number]
    how = draw.randrange(4)
    if how == 0:
        chunks.insert(draw.randrange(len(chunks) + 1), (name, inside))
    elif how == 1:
        bomb = draw.choice((b"zTXt", b"iCCP", b"iTXt", b"eXIf", b"tRNS", b"PLTE", b"IDAT"))
        packed = zlib.compress(bytes(10**6))
        chunks.insert(1, (bomb, draw.choice((b"a\0\0", b"")) + packed))
    else:
        chunks[number] = (name, some_bytes(draw, inside))
    return content[:8] + b"".join(
        struct.pack(">I", len(inside))
        + name
        + inside
        + struct.pack(">I", zlib.crc32(name + inside))
        for name, inside in chunks
    )


def some_zip(draw, content, others=()):
    """Return an archive with a part changed, doubled or left out; its checksums are right."""
    if draw.random() < 0.3:
        return some_bytes(draw, content, others)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [(member.filename, archive.read(member)) for member in archive.infolist()]
    number = draw.randrange(len(parts))
    name, inside = parts[number]
    how = draw.randrange(6)
    if how == 0:
        parts.append((name, inside))
    elif how == 1:
        parts[number] = (name + draw.choice(("x", "../x", "\x1b")), inside)
    elif how == 2:
        del parts[number]
    elif how == 3:
        to = draw.choice((b"|O", b"<c8", b"|S9", b"<f2", b">i8", b"|V4", b"<U1", b"<M8"))
        parts[number] = (name, re.sub(rb"[<|>][a-zA-Z][0-9]", to, inside, count=1))
    elif how == 4:
        to = draw.choice((b"(-1,", b"(0,", b"(99999999999,", b"(1, 1,", b"(True,", b"((1,),"))
        parts[number] = (name, re.sub(rb"\([0-9]+,", to, inside, count=1))
    else:
        parts[number] = (name, some_bytes(draw, inside))
    written = io.BytesIO()
    packed = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(written, "w", packed) as archive:
        warnings.simplefilter("ignore")  # of two parts with one name
        for name, inside in parts:
            archive.writestr(name, inside)
    return written.getvalue()


def some_safetensors(draw, content, others=()):
    """Return a safetensors file with its header or its numbers changed."""
    (length,) = struct.unpack("<Q", content[:8])
    if draw.random() < 0.4:
        return some_bytes(draw, content, others)
    header = some_json(draw, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]
