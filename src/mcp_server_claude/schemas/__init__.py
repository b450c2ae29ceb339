"""JSON Schemas for answers: parsed from a tool call, normalized for the API, and enforced on the answer.

The API takes a part of JSON Schema and answers HTTP 400 to the rest, so a schema is normalized before it is sent. The
answer is validated by jsonschema-rs against the schema as the caller gave it, so nothing that the API does not take is
lost. The order of calls is `parse_json_schema`, `normalize_schema`, `as_output_format` or `as_answer_tool`,
`validate_output`, and once `repair_prompt`.

| keyword | what is sent |
| --- | --- |
| `type`, `title`, `description` | as it is; several types as a list, or as `anyOf` when one has structure or a format |
| no `type` | the one whose keywords stand there (`properties` → object), else **refused** |
| `enum`, `const` of strings, numbers, booleans, null | as it is, without `type` (values of other types are left out) |
| `enum`, `const` with objects or arrays | **refused** |
| `properties`, `required` | as they are; `required` names without a property: **refused** |
| `additionalProperties` | always `false`, so Claude sends listed properties only; `true` is named in `dropped` |
| `additionalProperties` with a schema, `patternProperties`, an object without properties | **refused** |
| `items`, `minItems` 0 or 1 | as they are; `items: {}` and `true` are left out |
| `prefixItems` | `items` with `anyOf` of them, and described |
| `minItems` of 2 and more | `minItems: 1`, and described |
| `format` of `API_FORMATS` | as it is; others are described |
| `anyOf` | as it is, the keywords beside it moved into every branch; only described when it adds no structure |
| `oneOf` | `anyOf` |
| `allOf` | merged into one schema (closed objects would contradict each other) |
| `$ref` within the schema | to `$defs`, those in use; with keywords beside it the target is merged in |
| `$ref` to elsewhere, to itself (recursion), `$dynamicRef`, `$id` or `$schema` below the root | **refused** |
| `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf` | described |
| `minLength`, `maxLength`, `pattern`, `content…` | described; a `pattern` that needs backtracking is **refused** |
| `maxItems`, `uniqueItems`, `contains`, `minContains`, `maxContains`, `unevaluatedItems` | described |
| `minProperties`, `maxProperties`, `propertyNames`, `dependent…`, `unevaluatedProperties` | described |
| `not`, `if`, `then`, `else` | described |
| `default`, `examples` | described; they are no constraints and not named in `dropped` |
| `$comment`, `deprecated`, `readOnly`, `writeOnly`, `$anchor`, `$schema` and `$id` of the root | left out |
| unknown keywords | left out and named in `dropped` |
| a root that is not an object | wrapped as `{"value": …}`, and unwrapped by `validate_output` |

"Described" means: added to the description as `{minimum: 1}`, as the SDK's `transform_schema` does, named in `dropped`
and enforced by `validate_output`. jsonschema-rs is loaded with the first schema.
"""

from __future__ import annotations

from mcp_server_claude.schemas.normalize_for_api import NormalizedSchema, normalize_schema
from mcp_server_claude.schemas.output_format import as_answer_tool, as_instruction, as_output_format
from mcp_server_claude.schemas.parse_schema import parse_json_schema
from mcp_server_claude.schemas.validate_answer import SchemaMismatchError, repair_prompt, validate_output

__all__ = [
    "NormalizedSchema",
    "SchemaMismatchError",
    "as_answer_tool",
    "as_instruction",
    "as_output_format",
    "normalize_schema",
    "parse_json_schema",
    "repair_prompt",
    "validate_output",
]
