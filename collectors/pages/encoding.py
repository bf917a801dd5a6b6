"""Character encodings of web pages: what is declared, unless the bytes contradict it."""

import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5


def decode(payload: bytes, media_type: str) -> tuple[str, str]:
    """Return a page's characters, and the encoding they were read in.

    A byte order mark decides; then bytes beyond ASCII that are valid UTF-8, which no other encoding
    forms by chance; then what the header and the page declare, unless the bytes contradict it; then
    detection. Names mean what browsers take them to mean: `iso-8859-1` is windows-1252.
    """
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if payload.startswith(mark):
            return payload[len(mark) :].decode(name, "replace"), name
    plain = payload.isascii() and b"\0" not in payload and b"\x1b" not in payload
    try:
        if plain or not payload.isascii():
            return payload.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    beyond_ascii = len(payload.translate(None, bytes(range(128))))
    in_header = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", media_type, re.IGNORECASE)
    in_page = re.search(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)", payload[:4096], re.IGNORECASE)
    for label in (in_header and in_header[1], in_page and in_page[1].decode("ascii")):
        known = map_encoding_to_html5(label, fallback_utf8=False) if label else None
        if known:
            text = payload.decode(known, "replace")
            # A few broken bytes are damage; many are another encoding.
            if text.count("\ufffd") <= beyond_ascii / 10:
                return text, known
    detected = detect_encoding(payload) or "utf-8"
    return payload.decode(detected, "replace"), detected
