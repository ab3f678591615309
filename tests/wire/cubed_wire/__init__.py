"""The wire format of `cubed/1` in Python, written from `docs/PROTOCOL.md` and nothing else.

Owns bytes and what they say: no socket, no clock, no state of a session. It is given whole datagrams or pieces of them. What always
holds: whatever a decoder accepts, its encoder writes as the same bytes; whatever the page refuses raises `Malformed`. Modules, leaf
first: cursor, varints, postcard, identity, ranges, settled, records, messages, frames, header, keys, tls, handshake, cookie.
"""
