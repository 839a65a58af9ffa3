"""The essence of the contract as it was last agreed on (contract.json), and what a change takes away from clients.

`make contract` writes it anew; it refuses a change that takes something away, unless BREAK=1 says that this is meant.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from receiver.app import OPERATIONS
from receiver.contract import contract_of

SNAPSHOT = Path(__file__).with_name("contract.json")
PROSE = {"description", "summary", "example", "examples", "title", "info", "tags", "servers", "default"}
NAMES = {"properties", "schemas", "headers", "parameters", "paths", "responses", "securitySchemes"}

LEVELS = 5
BOUNDS = {"minimum": -1, "minLength": -1, "minItems": -1, "maximum": 1, "maxLength": 1, "maxItems": 1}

Schema = Mapping[str, Any]


def essence(part: Any, of: str = "") -> Any:
    """A document without its prose: what a client's code depends on. Names of fields are no prose."""
    if isinstance(part, Mapping):
        return {key: essence(value, key) for key, value in part.items() if of in NAMES or key not in PROSE}
    return [essence(one) for one in part] if isinstance(part, list) else part


def present() -> dict[str, Any]:
    """The essence of what is served now."""
    found: dict[str, Any] = essence(json.loads(json.dumps(contract_of(OPERATIONS))))
    return found


def breaks(old: Schema, new: Schema) -> Iterator[str]:
    """What a client that was written from `old` would miss in `new`, a sentence each."""
    for path, item in old["paths"].items():
        for method, operation in item.items():
            door, now = f"{method.upper()} {path}", new["paths"].get(path, {}).get(method)
            if now is None:
                yield f"{door} is gone"
            else:
                yield from _operation(operation, now, door)
    for name, schema in old["components"]["schemas"].items():
        now = new["components"]["schemas"].get(name)
        yield from [f"{name} is gone"] if now is None else _schema(schema, now, name, asked=False)


def _operation(old: Schema, new: Schema, door: str) -> Iterator[str]:
    if old["operationId"] != new["operationId"]:
        yield f"{door} has another operationId"
    before, after = ({_key(one): one for one in each["parameters"]} for each in (old, new))
    for key, parameter in before.items():
        if key not in after:
            yield f"{door}: the parameter {key} is gone"
        elif "schema" in parameter:
            yield from _schema(parameter["schema"], after[key]["schema"], f"{door} {key}", asked=True)
    for key, parameter in after.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"{door}: the parameter {key} must be given now"
    yield from _contents(old.get("requestBody", {}), new.get("requestBody", {}), f"{door} body", asked=True)
    if new.get("requestBody", {}).get("required") and not old.get("requestBody", {}).get("required"):
        yield f"{door}: it takes a body now"
    for status, answer in old["responses"].items():
        now = new["responses"].get(status)
        if now is None:
            yield f"{door}: the answer {status} is gone"
            continue
        yield from _contents(answer, now, f"{door} {status}", asked=False)
        lost = answer.get("headers", {}).keys() - now.get("headers", {}).keys()
        yield from (f"{door} {status}: the header {header} is gone" for header in lost)


def _key(parameter: Schema) -> str:
    return str(parameter.get("$ref") or f"{parameter['name']} in {parameter['in']}")


def _contents(old: Schema, new: Schema, where: str, *, asked: bool) -> Iterator[str]:
    for content_type, content in old.get("content", {}).items():
        now = new.get("content", {}).get(content_type)
        if now is None:
            yield f"{where}: {content_type} is gone"
        else:
            yield from _schema(content["schema"], now["schema"], where, asked=asked)


def _schema(old: Schema, new: Schema, where: str, *, asked: bool) -> Iterator[str]:
    """`asked`: clients write it, so it may let through more; else they read it, so it may say more."""
    before, after = _types(old), _types(new)
    if (before - after if asked else after - before) or not before & after:
        yield f"{where}: its type was {sorted(before)} and is {sorted(after)}"
        return
    if old.get("format") != new.get("format"):
        yield f"{where}: its format was {old.get('format')} and is {new.get('format')}"
    gone = [word for word in old.get("enum", ()) if word not in new.get("enum", (word,))]
    if gone or (asked and "enum" in new and "enum" not in old):
        yield f"{where}: the words {gone} are gone"
    for bound, sign in BOUNDS.items():
        if asked and bound in new and (bound not in old or (new[bound] - old[bound]) * sign < 0):
            yield f"{where}: its {bound} was {old.get(bound)} and is {new[bound]}"
    required = set(new.get("required", ())) - set(old.get("required", ()))
    optional = set(old.get("required", ())) - set(new.get("required", ()))
    said = "must be given now" if asked else "may be missing now"
    yield from (f"{where}.{name} {said}" for name in (required if asked else optional))
    for name, field in old.get("properties", {}).items():
        now = new.get("properties", {}).get(name)
        yield from [f"{where}.{name} is gone"] if now is None else _schema(field, now, f"{where}.{name}", asked=asked)
    for key in ("items", "additionalProperties"):
        if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
            yield from _schema(old[key], new[key], f"{where}[]", asked=asked)
    for key in ("anyOf", "allOf"):
        for one, other in zip(old.get(key, ()), new.get(key, ()), strict=False):
            yield from _schema(one, other, where, asked=asked)


def _types(schema: Schema) -> set[str]:
    if "$ref" in schema:
        return {schema["$ref"].rpartition("/")[2]}
    if kinds := schema.get("anyOf"):
        return set().union(*(_types(kind) for kind in kinds))
    kind = schema.get("type", "anything")
    return set(kind) if isinstance(kind, list) else {kind}


def _lines(part: Any, levels: int, indent: str = "") -> str:
    """JSON with a line for each part down to `levels`: a parameter, an answer, a field."""
    if not levels or not isinstance(part, dict | list) or not part:
        return json.dumps(part, sort_keys=True, ensure_ascii=False)
    deeper = indent + " "
    if isinstance(part, list):
        items = [deeper + _lines(one, levels - 1, deeper) for one in part]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    items = [f"{deeper}{json.dumps(key)}: {_lines(part[key], levels - 1, deeper)}" for key in sorted(part)]
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"


def main() -> int:
    """Writes the present essence; 1 for a change that takes something away and is not said to be meant."""
    now = present()
    taken = list(breaks(json.loads(SNAPSHOT.read_text()), now)) if SNAPSHOT.exists() else []
    if taken and "--break" not in sys.argv:
        sys.stderr.write("\n".join(["A client would miss something; BREAK=1 if that is meant:", *taken, ""]))
        return 1
    SNAPSHOT.write_text(_lines(now, LEVELS) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
