//! The table as a JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::{Kind, Need, Object};

/// The whole format, in draft 2020-12. It allows no more than `check` does where a schema can say so; `check` knows the
/// rules between keys.
pub fn json_schema() -> Value {
    let mut schema = object(&super::DOCUMENT);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("A cloudcaster document");
    schema
}

fn object(object: &Object) -> Value {
    let mut properties = Map::new();
    for key in object.keys {
        let mut schema = kind(&key.kind);
        schema["description"] = json!(key.help);
        if key.need == Need::Ignored {
            schema["deprecated"] = json!(true);
        }
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> = object.keys.iter().filter(|k| k.need == Need::Required).map(|k| k.name).collect();
    json!({
        "type": "object",
        "description": object.help,
        "properties": properties,
        "required": required,
        "patternProperties": { "^_": true },
        "additionalProperties": false,
    })
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text(format) => format.schema(),
        Kind::Secret => json!({ "type": "string" }),
        Kind::Whole(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Present => json!({}),
        Kind::List(items) => json!({ "type": "array", "items": self::kind(items) }),
        Kind::Object(below) => object(below),
    }
}
