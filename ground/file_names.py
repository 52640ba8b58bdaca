"""File names made from any names: readable, and never the same for different names.

Letters, digits and `-_=.` stay as they are; every other byte becomes `+` and two hexadecimal
digits. `hf:facebook/hubert` becomes `hf+3Afacebook+2Fhubert`.
"""

from __future__ import annotations

import hashlib
import unicodedata

LONGEST = 150
"""Bytes of a file name; a longer one ends in the hash of the rest. File systems allow 255."""


def file_name(*parts: str) -> str:
    """Join names to one file name by underscores; different names give different file names.

    Underscores stay in the last part only and become `+5F` in the others, so that ("fan_1", "2")
    and ("fan", "1_2") differ. Names are compared in Unicode's NFC. A leading dot is encoded.
    """
    *others, last = [_encoded(unicodedata.normalize("NFC", part)) for part in parts]
    name = "_".join([*(part.replace("_", "+5F") for part in others), last])
    if name.startswith("."):
        name = f"+2E{name[1:]}"
    raw = name.encode("utf-8")
    if len(raw) <= LONGEST:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{raw[:LONGEST].decode('utf-8', 'ignore')}++{digest}"  # no name has ++ otherwise


def _encoded(name: str) -> str:
    return "".join(
        character
        if character.isalnum() or character in "-_=."
        else "".join(f"+{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        for character in name
    )
