"""Two contents of one size with one XXH3-128, made on purpose: what an attacker who can write a workspace can do.

Beyond 240 bytes XXH3 takes stripes of 64 bytes. Lane 0 of a stripe is 8 bytes, xored with 8 of a secret that is a constant of the algorithm; the low half of the
result times its high half is added to one accumulator, the 8 bytes themselves to another. With a low half that is the secret's the product is 0, whatever
the high half is. Then of two stripes only the sum counts: what is added to one high half and taken from the other changes no hash.
"""

import struct

# The first 16 bytes of XXH3's default secret: of lane 0 in the first stripe, and in the second.
SECRET = struct.unpack("<QQ", bytes.fromhex("b8fe6c3923a44bbe7c01812cf721ad1c"))
LOW = 0xffffffff
STRIPE = 64
SIZE_MIN = 300


def pair(data, first, second):
    """DATA (SIZE_MIN bytes or more, of which 0..7 and 64..71 are made up here) twice, different: FIRST and SECOND (32 bits, 0 < both) are the high halves."""
    made = []
    for shift in (0, 1):
        content = bytearray(data)
        struct.pack_into("<II", content, 0, SECRET[0] & LOW, (first + shift) & LOW)
        struct.pack_into("<II", content, STRIPE, SECRET[1] & LOW, (second - shift) & LOW)
        made.append(bytes(content))
    return made
