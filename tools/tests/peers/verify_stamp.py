"""What rfc3161-client makes of time stamps over a note.

Arguments: the authority's certificate, the note. The paths of replies on the lines of the standard input; for each a line: "yes", or "no" and why.
"""

import sys

from cryptography.x509 import load_pem_x509_certificate
from rfc3161_client import VerifierBuilder, decode_timestamp_response

with open(sys.argv[1], "rb") as file:
    certificate = load_pem_x509_certificate(file.read())
with open(sys.argv[2], "rb") as file:
    note = file.read()

for line in sys.stdin:
    with open(line.rstrip("\n"), "rb") as file:
        reply = file.read()
    try:
        verifier = VerifierBuilder().add_root_certificate(certificate).tsa_certificate(certificate).build()
        verifier.verify_message(decode_timestamp_response(reply), note)
        print("yes")
    except Exception as error:  # What it says to broken certificates is of many kinds.
        print("no", str(error).splitlines()[0] if str(error) else type(error).__name__)
