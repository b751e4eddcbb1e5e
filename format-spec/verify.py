#!/usr/bin/env python3
"""Checks a Chainring receipt or bundle without any log: TRUST.md section 7, step by step, under the same numbers.

usage: verify.py FILE [--key VKEY] [--saved-checkpoint FILE]
       verify.py --batch --key VKEY    (each line of the input names a file; one answer a line)

Needs the packages blake3 and cryptography. Prints one JSON object. Exit codes: 0 it holds, 1 it does not, 2 wrong usage.
"""

import base64
import hashlib
import json
import re
import struct
import sys

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):
    def __init__(self, step, why):
        super().__init__(f"step {step}: {why}")
        self.step, self.why = step, why


def need(step, holds, why):
    if not holds:
        raise Refused(step, why)


# --- bytes -----------------------------------------------------------------------------------------------------------------------

def b64(step, text, length=None):
    try:
        raw = base64.b64decode(text, validate=True)
    except Exception:
        raise Refused(step, "not base64") from None
    need(step, base64.b64encode(raw).decode() == text and raw, "base64 that is not canonical")
    need(step, length is None or len(raw) == length, "another length")
    return raw


def maybe(step, text):
    return b"" if text == "-" else b64(step, text)


def number(step, text):
    need(step, re.fullmatch(r"0|[1-9][0-9]{0,19}", text) and int(text) < 2**64, "not a decimal number")
    return int(text)


def hashes(step, text):
    raw = maybe(step, text)
    need(step, len(raw) % 32 == 0 and len(raw) // 32 <= 63, "not a list of at most 63 hashes")
    return [raw[at:at + 32] for at in range(0, len(raw), 32)]


# --- hashes (FORMAT.md section 7) --------------------------------------------------------------------------------------------------

def derive(context, data):
    return blake3(data, derive_key_context="chainring 2026-11 v1 " + context).digest()


def pad64(data):
    return data + bytes(-len(data) % 64)


def body_commit(salt, body):
    return derive("body", pad64(salt + struct.pack("<Q", len(body)) + body))


def event_digest(ids, metadata, commit):
    return derive("event", pad64(ids + struct.pack("<II", len(metadata), 0) + commit + metadata))


def engine_digest(body):
    return event_digest(bytes(56), b"", body_commit(bytes(16), body))


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


class Leaf:
    def __init__(self, step, text):
        raw = b64(step, text, 116)
        need(step, raw[1] == 1, "a leaf of another hash suite")
        self.kind = raw[0]
        self.bucket, self.version, self.recorded_at_ns = struct.unpack_from("<HQQ", raw, 2)
        self.digest, self.prev_bucket, self.prev_stream = raw[20:52], raw[52:84], raw[84:116]
        self.link = hashlib.sha256(b"\x00" + raw).digest()


# --- tree (RFC 9162) ---------------------------------------------------------------------------------------------------------------

def included_root(leaf, index, size, path):
    """RFC 9162 2.1.3.2; None if the path has not the length it must have."""
    if index >= size:
        return None
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = node(p, r)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


def consistent(old, old_root, size, root, path):
    """RFC 9162 2.1.4.2."""
    if old == size:
        return not path and old_root == root
    if old == 0 or old > size:
        return False
    path = ([old_root] if old & (old - 1) == 0 else []) + path
    if not path:
        return False
    fn, sn = old - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == root


# --- notes and keys ----------------------------------------------------------------------------------------------------------------

def is_name(name):
    return name != "" and "+" not in name and not any(c.isspace() or ord(c) < 32 or 127 <= ord(c) < 160 for c in name)


class Key:
    def __init__(self, text):
        name, ident, key = text.strip().split("+", 2)
        raw = b64(3, key, 33)
        need(3, raw[0] == 1 and is_name(name), "not an Ed25519 verifier key")
        self.name, self.key = name, raw[1:]
        need(3, ident == self.ident().hex(), "the key id is not that of the key")

    def ident(self):
        return hashlib.sha256(self.name.encode() + b"\n\x01" + self.key).digest()[:4]


P = 2**255 - 19


def is_small_order(encoded):
    """Points whose order divides 8, in every encoding: strict verification refuses them."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    d = (-121665 * pow(121666, P - 2, P)) % P
    y %= P
    if y in (0, 1, P - 1):
        return True
    # Order 8: y^2 solves d*y^4 + 2*y^2 - 1 = 0 (from doubling to a point of order 4).
    return (d * pow(y, 4, P) + 2 * y * y - 1) % P == 0


def verifies(key, message, signature):
    if len(signature) != 64 or is_small_order(key) or is_small_order(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


class Note:
    def __init__(self, step, note):
        need(step, not any(ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160 for c in note), "a control character in the note")
        at = note.rfind("\n\n")
        need(step, at >= 0 and note.endswith("\n"), "a note without signatures")
        self.text = note[:at + 1]
        need(step, len(note) > at + 2, "a note without signatures")
        self.signatures = []
        for line in note[at + 2:-1].split("\n"):
            need(step, line.startswith("\u2014 ") and line[2:].count(" ") >= 1, "a signature line")
            name, signature = line[2:].split(" ", 1)
            raw = b64(step, signature)
            need(step, is_name(name) and len(raw) > 4, "a signature line")
            self.signatures.append((name, raw))
        need(step, len(self.signatures) <= 64, "too many signatures")

    def checkpoint(self, step):
        lines = self.text[:-1].split("\n")
        need(step, len(lines) == 3 and lines[0] != "", "no checkpoint of three lines")
        return lines[0], number(step, lines[1]), b64(step, lines[2], 32)

    def signed_by(self, name, key):
        ident = hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]
        found = False
        for signer, raw in self.signatures:
            if signer == name and raw[:4] == ident:
                need(4, verifies(key, self.text.encode(), raw[4:]), "a signature of the known key does not hold")
                found = True
        return found


# --- the procedure -----------------------------------------------------------------------------------------------------------------

class Lines:
    def __init__(self, text):
        self.rest = text

    def optional(self, key, count):
        line, end, rest = self.rest.partition("\n")
        words = line.split(" ")
        if not end or words[0] != key:
            return None
        need(1, len(words) == count + 1, f"the line {key} has another number of values")
        self.rest = rest
        return words[1:]

    def line(self, key, count):
        values = self.optional(key, count)
        need(1, values is not None, f"a line {key} is missing here")
        return values


def check_genesis(leaf, body):
    need(2, (leaf.kind, leaf.bucket, leaf.version) == (0, 4096, 0), "not the leaf of a genesis record")
    need(2, leaf.prev_bucket == bytes(32) and leaf.prev_stream == bytes(32), "the genesis record has a predecessor")
    need(2, len(body) >= 96, "the genesis body is too short")
    time, buckets, suite, origin_bytes = struct.unpack_from("<QIHH", body, 64)
    need(2, origin_bytes <= 512 and len(body) == 96 + origin_bytes, "the genesis body has another length")
    need(2, (time, buckets, suite, body[80:96]) == (leaf.recorded_at_ns, 4096, 1, bytes(16)), "the genesis body has other constants")
    need(2, leaf.digest == engine_digest(body), "the genesis body is not the leaf's")
    try:
        return body[96:].decode()
    except UnicodeDecodeError:
        raise Refused(2, "the origin is not UTF-8") from None


def follow(key, log_id, rotations):
    current = key
    for body in rotations:
        need(3, len(body) == 200, "a key record of another length")
        old, new = body[:32], body[32:64]
        need(3, new not in (bytes(32), old) and body[192:] == bytes(8), "a key record that does not hold")
        need(3, old != bytes(32) or body[64:128] == bytes(64), "a key record that does not hold")
        if old != current:
            continue
        statement = b"chainring 2026-11 v1 key\n" + log_id + old + new
        need(3, verifies(old, statement, body[64:128]) and verifies(new, statement, body[128:192]), "a key record is not signed by both")
        current = new
    return current


def check_checkpoint(text, log_id, rotations, key, saved):
    note = Note(4, text)
    name, size, root = note.checkpoint(4)
    if key is None:
        need(3, saved is not None, "neither a key nor a saved checkpoint")
        return name, size, root, False
    need(4, key.name == name, "the checkpoint is of another name than the key")
    current = follow(key.key, log_id, rotations) if log_id is not None else key.key
    need(4, note.signed_by(name, current), "the checkpoint is not signed by the key")
    return name, size, root, True


def check_saved(saved, name, size, root, proof, signed, shown):
    """The size and root that vouch. shown: position of the newest record shown, where nothing is said of those behind it."""
    if saved is None:
        return size, root
    saved_name, saved_size, saved_root = saved
    need(6, saved_name == name, "the saved checkpoint is of another log")
    need(6, saved_size <= size, "the saved checkpoint is larger")
    if saved_size < size:
        need(6, proof is not None and proof[0] == saved_size, "no proof that the log goes on from the saved checkpoint")
    path = proof[1] if saved_size < size else []
    need(6, consistent(saved_size, saved_root, size, root, path), "the log does not go on from the saved checkpoint")
    if signed:
        return size, root
    vouched = saved_size == size or (shown is not None and shown < saved_size)
    need(6, vouched, "without a key nobody vouches for what is behind the saved checkpoint")
    return saved_size, saved_root


def check_receipt(text, key, saved):
    lines = Lines(text)
    lines.line("c2sp.org/tlog-proof@v1", 0)
    leaf = Leaf(1, lines.line("extra", 1)[0])
    index = number(1, lines.line("index", 1)[0])
    if lines.rest.startswith("\n"):
        path, note = [], lines.rest[1:]
    else:
        head, end, note = lines.rest.partition("\n\n")
        need(1, end, "no empty line before the checkpoint")
        path = [b64(1, line, 32) for line in head.split("\n")]
    need(1, len(path) <= 63, "too many hashes")
    name, size, root, signed = check_checkpoint(note, None, [], key, saved)
    vouching = check_saved(saved, name, size, root, None, signed, None)
    need(9, included_root(leaf.link, index, size, path) == root, "the record is not under the root")
    return {
        "ok": True,
        "claim": "record",
        "origin": name,
        "size": vouching[0],
        "root": vouching[1].hex(),
        "position": index,
        "signed": signed,
    }


def check_event(leaf, ids, content, metadata, stream_id, bucket, name_commit):
    event_id, batch_id = ids[16:32], ids[32:48]
    index, count = struct.unpack_from("<II", ids, 48)
    need(8, ids[:16] == stream_id, "an event of another stream")
    need(8, (leaf.kind, leaf.bucket) == (16, bucket) and leaf.version >= 1, "not the leaf of an event of the stream")
    need(8, (leaf.version == 1) == (leaf.prev_stream == name_commit), "the first event, and no other, follows from the name")
    alone = count == 0 and index == 0 and batch_id == bytes(16)
    need(8, alone or (index < count and (index > 0 or batch_id == event_id)), "a place in a batch that cannot be")
    need(8, event_id != bytes(16), "an event without id")
    commit = content[1] if content[0] == "erased" else body_commit(content[1], content[2])
    need(8, leaf.digest == event_digest(ids, metadata, commit), "the content is not the leaf's")
    return {
        "version": leaf.version,
        "event_id": event_id.hex(),
        "recorded_at_ns": leaf.recorded_at_ns,
        "metadata": metadata.hex(),
        "body": None if content[0] == "erased" else content[2].hex(),
        "link": leaf.link.hex(),
    }


def check_seal_body(body, position, time_ns):
    need(11, len(body) == 320, "a seal of another length")
    seal_number, at = struct.unpack_from("<QQ", body, 0)
    (tree_size,) = struct.unpack_from("<Q", body, 48)
    (sealed_at,) = struct.unpack_from("<Q", body, 168)
    (signed_size,) = struct.unpack_from("<Q", body, 208)
    need(11, seal_number != 0 and (seal_number == 1) == (body[16:48] == bytes(32)), "a seal with a number that cannot be")
    need(11, at == position and sealed_at == time_ns, "a seal that states another position or time")
    need(11, 1 <= tree_size <= position and signed_size <= position, "a seal over what is not before it")
    need(11, signed_size != 0 or body[216:312] == bytes(96), "a seal that names no checkpoint's signature")
    need(11, body[120:152] == bytes(32) and body[312:] == bytes(8), "reserved bytes of the seal")
    return tree_size, body[88:120]


def check_bundle(text, key, saved):
    # 1
    lines = Lines(text)
    lines.line("chainring-bundle/v1", 0)
    (claim,) = lines.line("claim", 1)
    need(1, claim in ("event", "stream", "absent"), "an unknown claim")
    leaf, body = lines.line("genesis", 2)
    genesis, genesis_body = Leaf(1, leaf), maybe(1, body)
    genesis_proof = hashes(1, lines.line("genesis-proof", 1)[0])
    rotations = []
    while (values := lines.optional("rotation", 1)) is not None:
        rotations.append(maybe(1, values[0]))
    values = lines.optional("consistency", 2)
    consistency = (number(1, values[0]), hashes(1, values[1])) if values is not None else None
    stream = maybe(1, lines.line("stream", 1)[0])
    later = []
    if claim != "event":
        leaf, body = lines.line("seal", 2)
        seal, seal_body = Leaf(1, leaf), maybe(1, body)
        seal_proof = hashes(1, lines.line("seal-proof", 1)[0])
        events, link, path = lines.line("head", 3)
        head_events, head_link, head_path = number(1, events), b64(1, link, 32), hashes(1, path)
        while (values := lines.optional("later", 1)) is not None:
            later.append(Leaf(1, values[0]))
    parsed = []
    while (values := lines.optional("event", 1)) is not None:
        leaf = Leaf(1, values[0])
        ids = b64(1, lines.line("ids", 1)[0], 56)
        metadata = maybe(1, lines.line("metadata", 1)[0])
        values = lines.optional("body", 2)
        if values is not None:
            content = ("body", b64(1, values[0], 16), maybe(1, values[1]))
        else:
            content = ("erased", b64(1, lines.line("erased", 1)[0], 32))
        parsed.append((leaf, ids, content, metadata))
    counts = {"event": len(parsed) == 1, "stream": len(parsed) > 0, "absent": not parsed}
    need(1, counts[claim], "another number of events than the claim has")
    position = path = None
    if parsed:
        values = lines.line("proof", 2)
        position, path = number(1, values[0]), hashes(1, values[1])
    lines.line("checkpoint", 0)
    # 2
    origin = check_genesis(genesis, genesis_body)
    log_id = genesis.link
    # 3 and 4
    name, size, root, signed = check_checkpoint(lines.rest, log_id, rotations, key, saved)
    # 5
    need(5, included_root(log_id, 0, size, genesis_proof) == root, "the genesis record is not under the root")
    # 6
    vouching = check_saved(saved, name, size, root, consistency, signed, position if claim == "event" else None)
    # 7
    need(7, 1 <= len(stream) <= 512, "a stream's name of another length")
    try:
        stream_name = stream.decode()
    except UnicodeDecodeError:
        raise Refused(7, "a stream's name that is not UTF-8") from None
    stream_id = derive("stream-id", stream)[:16]
    bucket = struct.unpack_from("<H", stream_id)[0] & 0x0FFF
    name_commit = derive("stream", log_id + struct.pack("<H", len(stream)) + stream)
    # 8
    events = [check_event(*event, stream_id, bucket, name_commit) for event in parsed]
    # 9
    if parsed:
        need(9, included_root(parsed[0][0].link, position, size, path) == root, "the event is not under the root")
    complete_to = None
    if claim != "event":
        # 10
        for (newer, *_), (older, *_) in zip(parsed, parsed[1:]):
            need(10, newer.prev_stream == older.link and newer.version - 1 == older.version, "an event does not follow the one before it")
        if parsed:
            first = parsed[-1][0]
            need(10, first.version == 1 and first.prev_stream == name_commit, "the events do not go back to the beginning")
        # 11
        need(11, (seal.kind, seal.bucket) == (1, 4096) and seal.digest == engine_digest(seal_body), "not the leaf of the seal")
        need(11, size >= 1, "a checkpoint of nothing")
        complete_to, heads_root = check_seal_body(seal_body, size - 1, seal.recorded_at_ns)
        need(11, included_root(seal.link, size - 1, size, seal_proof) == root, "the seal is not under the root")
        entry = hashlib.sha256(b"\x00" + struct.pack("<HQ", bucket, head_events) + head_link).digest()
        found = included_root(entry, bucket, 4096, head_path)
        need(11, len(head_path) == 12 and found == heads_root, "the head is not under the seal")
        # 12
        link = head_link
        follows = parsed[0][0].link if parsed else name_commit
        for leaf in later:
            need(12, leaf.link == link and (leaf.kind, leaf.bucket) == (16, bucket), "what is later is no chain of the bucket")
            need(12, leaf.prev_stream != follows, "the stream goes on")
            link = leaf.prev_bucket
        if parsed:
            need(12, link == parsed[0][0].link, "the bucket does not lead to the newest event")
        else:
            need(12, link == log_id and head_events == len(later), "the bucket does not lead to its beginning")
    return {
        "ok": True,
        "claim": claim,
        "log_id": log_id.hex(),
        "origin": origin,
        "size": vouching[0],
        "root": vouching[1].hex(),
        "signed": signed,
        "stream": stream_name,
        "position": position,
        "events": events,
        "complete_to": complete_to,
    }


def check(raw, key, saved):
    try:
        text = raw.decode()
        if text.split("\n", 1)[0] == "c2sp.org/tlog-proof@v1":
            return check_receipt(text, key, saved)
        return check_bundle(text, key, saved)
    except UnicodeDecodeError:
        return {"ok": False, "step": 1, "why": "not text"}
    except Refused as refused:
        return {"ok": False, "step": refused.step, "why": refused.why}


def main(arguments):
    file = key = saved = None
    batch = False
    arguments = list(arguments)
    try:
        while arguments:
            argument = arguments.pop(0)
            if argument == "--key":
                key = Key(arguments.pop(0))
            elif argument == "--saved-checkpoint":
                with open(arguments.pop(0), encoding="utf-8", newline="") as saved_file:
                    saved = Note(6, saved_file.read()).checkpoint(6)
            elif argument == "--batch":
                batch = True
            elif file is None and not argument.startswith("--"):
                file = argument
            else:
                raise IndexError
        if (file is None) != batch:
            raise IndexError
    except (IndexError, ValueError, Refused) as error:
        print(f"verify.py: {error or 'wrong usage'}\n{__doc__}", file=sys.stderr)
        return 2
    answers = []
    for path in [line.rstrip("\n") for line in sys.stdin] if batch else [file]:
        with open(path, "rb") as proof:
            answers.append(check(proof.read(), key, saved))
        print(json.dumps(answers[-1]))
    return 0 if all(answer["ok"] for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
