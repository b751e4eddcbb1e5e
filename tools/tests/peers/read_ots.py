"""What the library of the OpenTimestamps client reads in proofs.

The paths of the proofs on the lines of the standard input; for each a line: "no", or the digest that was stamped and, sorted and separated by ", ", who
attests it.
"""

import sys

from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation
from opentimestamps.core.op import OpSHA256
from opentimestamps.core.serialize import DeserializationError, StreamDeserializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile


def told(attestation):
    if isinstance(attestation, PendingAttestation):
        return f"pending at {attestation.uri}"
    if isinstance(attestation, BitcoinBlockHeaderAttestation):
        return f"in Bitcoin block {attestation.height}"
    return "attested otherwise"


for line in sys.stdin:
    with open(line.rstrip("\n"), "rb") as file:
        try:
            proof = DetachedTimestampFile.deserialize(StreamDeserializationContext(file))
        except (DeserializationError, ValueError, OverflowError, RecursionError):
            print("no")
            continue
    if not isinstance(proof.file_hash_op, OpSHA256):
        print("no")
        continue
    print(proof.file_digest.hex(), ", ".join(sorted({told(attestation) for _, attestation in proof.timestamp.all_attestations()})))
