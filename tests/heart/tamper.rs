pub fn broken_json() -> serde_json::Value {
    serde_json::json!({})
}
