"""The contract as a page for people: made from the OpenAPI document, whole in one answer, nothing of the internet."""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

_HERE = Path(__file__)
STYLE = _HERE.with_suffix(".css").read_text(encoding="utf-8")
SCRIPT = _HERE.with_suffix(".js").read_text(encoding="utf-8")

Schema = Mapping[str, Any]


def headers() -> dict[str, str]:
    """What a browser may do with the page: show it with its own style and script, and nothing else."""
    policy = {
        "default-src": "'none'",
        "style-src": _hash_of(STYLE),
        "script-src": _hash_of(SCRIPT),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def page(document: Schema) -> str:
    """The page of an OpenAPI document, as HTML."""
    info, chapters = document["info"], _chapters(document)
    schemas = document["components"]["schemas"]
    body = "".join(
        [
            f'<section id="introduction"><h2>Introduction</h2>{_prose(info["description"])}</section>',
            *(_chapter(tag, operations, document) for tag, operations in chapters),
            _errors(document),
            '<section id="schemas"><h2>Schemas</h2>',
            *(_component(name, schema, schemas) for name, schema in schemas.items()),
            "</section>",
        ]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(info["title"])} {escape(info["version"])}: the doors</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">To the text</a>
<header>
<h1>{escape(info["title"])} <small>{escape(info["version"])}</small></h1>
<p>{escape(info["summary"])}</p>
<p class="search" hidden><label for="search">Search</label>
<input id="search" type="search" placeholder="path, field, code …" autocomplete="off" spellcheck="false">
<kbd>/</kbd> <output id="found" for="search" aria-live="polite"></output></p>
<p class="machine">For machines: <a href="openapi.json">openapi.json</a></p>
</header>
<nav aria-label="Doors">{_contents(chapters)}</nav>
<main id="main" tabindex="-1">{body}</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


Found = list[tuple[str, str, Schema]]


def _chapters(document: Schema) -> list[tuple[Schema, Found]]:
    """Each tag with its operations, as path, method and operation."""
    every = [
        (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    return [(tag, [one for one in every if one[2]["tags"] == [tag["name"]]]) for tag in document["tags"]]


def _contents(chapters: list[tuple[Schema, Found]]) -> str:
    parts = ['<p><a href="#introduction">Introduction</a></p>']
    for tag, operations in chapters:
        items = "".join(
            f'<li data-for="{operation["operationId"]}"><a href="#{operation["operationId"]}">'
            f"{_badge(method)} <span>{_path(path)}</span></a></li>"
            for path, method, operation in operations
        )
        parts.append(f'<h2><a href="#{_anchor(tag["name"])}">{escape(tag["name"])}</a></h2><ul>{items}</ul>')
    return "".join([*parts, '<p><a href="#errors">Errors</a></p><p><a href="#schemas">Schemas</a></p>'])


def _chapter(tag: Schema, operations: Found, document: Schema) -> str:
    doors = "".join(_door(path, method, operation, document) for path, method, operation in operations)
    name = tag["name"]
    return f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{_prose(tag["description"])}{doors}</section>'


def _door(path: str, method: str, operation: Schema, document: Schema) -> str:
    name = operation["operationId"]
    gone = ' <strong class="gone">deprecated</strong>' if operation.get("deprecated") else ""
    parts = [
        f'<article id="{name}" data-search><h3><a href="#{name}">{_badge(method)} {_path(path)}</a>{gone}</h3>',
        f"<p><strong>{_inline(operation['summary'])}</strong></p>{_prose(operation['description'])}",
        f"<pre><code>{escape(_call(path, method, operation))}</code></pre>",
        _parameters(operation, document),
    ]
    if body := operation.get("requestBody"):
        types = ", ".join(f"<code>{escape(name)}</code>" for name in body["content"])
        content = next(iter(body["content"].values()))
        parts.append(f"<h4>Body</h4><p>{types}: {_type(content['schema'])}</p>{_fields(content['schema'])}")
    parts.append(_answers(operation))
    return "".join([*parts, "</article>"])


def _call(path: str, method: str, operation: Schema) -> str:
    """The call as curl makes it, of the examples."""
    query = []
    for parameter in operation["parameters"]:
        example = parameter.get("example")
        if parameter.get("in") == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(example or f"<{parameter['name']}>"))
        elif parameter.get("in") == "query" and example is not None:
            values = example if isinstance(example, list) else [example]
            query += [f"{parameter['name']}={json.dumps(v).strip(chr(34))}" for v in values]
    url = f'"$URL{path}{"?" if query else ""}{"&".join(query)}"'
    words = ["curl", *({"get": [], "head": ["-I"]}.get(method, ["-X", method.upper()])), url]
    if operation["security"]:
        words.insert(1, '-H "Authorization: Bearer $KEY"')
    body: Schema = next(iter(operation.get("requestBody", {}).get("content", {}).values()), {})
    if "example" in body:
        words.append(f"-d {shlex.quote(json.dumps(body['example'], indent=2, ensure_ascii=False))}")
    elif body:
        words.append("-T FILE")
    return " ".join(words)


def _parameters(operation: Schema, document: Schema) -> str:
    rows = []
    for given in operation["parameters"]:
        one = document["components"]["parameters"][given["$ref"].rpartition("/")[2]] if "$ref" in given else given
        note = " <em>deprecated</em>" if one.get("deprecated") else ""
        need = " <em>required</em>" if one["required"] else ""
        rows.append(
            f'<tr><th scope="row"><code>{escape(one["name"])}</code>{need}{note}<br><small>{one["in"]}</small></th>'
            f"<td>{_type(one['schema'])}</td><td>{_inline(one['description'])}</td></tr>"
        )
    return _table("Parameters", ("parameter", "type", "meaning"), rows) if rows else ""


def _answers(operation: Schema) -> str:
    rows, examples = [], []
    for status, answer in operation["responses"].items():
        kinds = []
        for content_type, content in answer.get("content", {}).items():
            is_problem = content_type == "application/problem+json"
            if is_problem:
                codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
                kinds += [f'<a href="#error-{code}"><code>{code}</code></a>' for code in codes]
            else:
                kinds.append(f"<code>{escape(content_type)}</code>: {_type(content['schema'])}")
                if "example" in content:
                    examples.append(f"<h4>Example of {status}</h4><pre><code>{_shown(content['example'])}</code></pre>")
        names = ", ".join(f"<code>{escape(name)}</code>" for name in answer.get("headers", {}))
        meaning = _inline(answer["description"].split("\n\n- ")[0])
        rows.append(
            f'<tr><th scope="row">{status}</th><td>{meaning}</td><td>{"<br>".join(kinds) or "no body"}</td>'
            f"<td><small>{names}</small></td></tr>"
        )
    return _table("Answers", ("status", "meaning", "body, or codes", "headers"), rows) + "".join(examples)


def _errors(document: Schema) -> str:
    """Every code with the doors that answer with it."""
    found: dict[tuple[str, str], list[str]] = {}
    meanings: dict[str, str] = {}
    for _, _, operation in (one for _, operations in _chapters(document) for one in operations):
        for status, answer in operation["responses"].items():
            for line in re.findall(r"^- `(\w+)`: (.*)$", answer["description"], re.MULTILINE):
                meanings[line[0]] = line[1]
                found.setdefault((status, line[0]), []).append(operation["operationId"])
    rows, named = [], set()
    for (status, code), doors in sorted(found.items()):
        anchor = f' id="error-{code}"' if code not in named else ""
        named.add(code)
        links = ", ".join(f'<a href="#{door}">{door}</a>' for door in doors)
        where = links if len(doors) <= 8 else f"{len(doors)} doors"
        rows.append(
            f'<tr{anchor} data-search><th scope="row"><code>{code}</code></th><td>{status}</td>'
            f"<td>{_inline(meanings[code])}</td><td><small>{where}</small></td></tr>"
        )
    table = _table("", ("code", "status", "meaning", "where"), rows)
    shape = (
        '<p>Every failure is <code>application/problem+json</code>: <a href="#schema-ProblemBody">ProblemBody</a>.</p>'
    )
    return f'<section id="errors"><h2>Errors</h2>{shape}{table}</section>'


def _component(name: str, schema: Schema, schemas: Schema) -> str:
    return (
        f'<article id="schema-{name}" data-search><h3><a href="#schema-{name}">{escape(name)}</a></h3>'
        f"{_prose(schema.get('description', ''))}{_fields(schema)}</article>"
    )


def _fields(schema: Schema) -> str:
    return _table("", ("field", "type", "meaning"), list(_rows(schema, "")))


def _rows(schema: Schema, before: str) -> Iterator[str]:
    """A row for each field of an object, and for those of the objects in it."""
    for name, field in schema.get("properties", {}).items():
        need = "" if name in schema.get("required", ()) else " <em>optional</em>"
        yield (
            f'<tr><th scope="row"><code>{escape(before + name)}</code>{need}</th><td>{_type(field)}</td>'
            f"<td>{_inline(field.get('description', ''))}</td></tr>"
        )
        yield from _rows(field, f"{before}{name}.")
        yield from _rows(field.get("items", {}), f"{before}{name}[].")


def _type(schema: Schema) -> str:
    """What values a schema lets through, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{name}">{escape(name)}</a>'
    if kinds := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(kind) for kind in kinds))
    if "enum" in schema:
        return "one of " + ", ".join(
            f"<code>{escape(json.dumps(value).strip(chr(34)))}</code>" for value in schema["enum"]
        )
    if "items" in schema and schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    kind = schema.get("type", "anything")
    parts = [" or ".join(kind) if isinstance(kind, list) else kind]
    parts += [str(schema["format"])] if "format" in schema else []
    least, most = schema.get("minimum"), schema.get("maximum")
    parts += [f"{least} to {most}"] if least is not None and most is not None else []
    parts += [f"{schema['maxLength']:,} characters at most"] if "maxLength" in schema else []
    parts += [f"default {schema['default']}"] if schema.get("default") is not None else []
    return escape(", ".join(parts))


def _table(title: str, heads: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        return ""
    named = f"<h4>{title}</h4>" if title else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    whole = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'{named}<div class="wide" tabindex="0"><table class="{heads[0]}">{whole}</table></div>'


def _shown(example: Any) -> str:
    return escape(example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False))


def _badge(method: str) -> str:
    return f'<b class="{method}">{method.upper()}</b>'


def _path(path: str) -> str:
    """A path that may break at its slashes."""
    return escape(path).replace("/", "<wbr>/").removeprefix("<wbr>")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _prose(text: str) -> str:
    """Paragraphs and lists of the little Markdown that descriptions hold."""
    parts = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if lines and all(line.startswith("- ") for line in lines):
            parts.append(f"<ul>{''.join(f'<li>{_inline(line[2:])}</li>' for line in lines)}</ul>")
        elif block:
            parts.append(f"<p>{_inline(block)}</p>")
    return "".join(parts)


def _inline(text: str) -> str:
    """Code and bold; all else is text."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
