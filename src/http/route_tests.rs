use super::*;

#[test]
fn every_row_is_found_by_its_own_request() {
    for row in TABLE {
        let path = match row.level {
            Service => "/",
            Bucket => "/bucket",
            Object => "/bucket/key",
        };
        let query: Vec<String> =
            row.sub.iter().map(|sub| if *sub == "list-type" { "list-type=2".to_owned() } else { format!("{sub}=1") }).collect();
        let uri: Uri = format!("{path}?{}", query.join("&")).parse().unwrap();
        let headers = row.header.map(|name| (name.parse().unwrap(), "x".parse().unwrap())).into_iter().collect();
        let found = classify(&row.method.parse().unwrap(), &uri, &headers);
        assert_eq!((found.operation, &found.verdict), (row.operation, &Ok(row.way)), "{} {uri}", row.method);
    }
}
