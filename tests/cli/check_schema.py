# SPDX-License-Identifier: Apache-2.0
"""check_schema.py SCHEMA DOCUMENT: whether a document is as its schema says. Ends with 0 too where there is no
jsonschema to tell."""

import json
import pathlib
import sys

try:
    import jsonschema
except ImportError:
    print("no jsonschema; `./dev setup` installs it into build/python")
    sys.exit(0)

schema, document = (json.loads(pathlib.Path(path).read_text()) for path in sys.argv[1:])
validator = jsonschema.Draft202012Validator
validator.check_schema(schema)
errors = list(validator(schema).iter_errors(document))
for error in errors[:5]:
    print("/".join(map(str, error.absolute_path)), error.message[:300])
sys.exit(bool(errors))
