//! Conditional requests in unusual forms.

use super::*;

#[test]
fn a_field_in_several_lines_counts_as_one_list() {
    let cluster = Cluster::start(1, 0);
    cluster.wait_until_complete();
    assert_eq!(cluster.request(0, "PUT /key", b"0123456789").0, 201);
    // printf 0123456789 | md5sum
    let (tag, other) = ("\"781e5e245d69b566979b86e28d23f2c7\"", "\"another\"");
    let ask = |method: &str, name: &str, lines: [&str; 2]| {
        let [one, two] = lines;
        let fields = format!("{name}: {one}\r\n{name}: {two}\r\n");
        cluster.request_with(0, &format!("{method} /key"), &fields, b"").0
    };
    assert_eq!(ask("GET", "If-None-Match", [other, tag]), 304);
    assert_eq!(ask("GET", "If-Match", [other, tag]), 200);
    assert_eq!(ask("GET", "If-Match", [other, other]), 412);
    assert_eq!(ask("PUT", "If-None-Match", [other, tag]), 412);
    assert_eq!(ask("DELETE", "If-Match", [other, other]), 412);
    // A date that cannot be read is ignored, and so are ranges of which nobody knows which is meant.
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(ask("GET", "If-Unmodified-Since", [date, date]), 200);
    assert_eq!(ask("GET", "Range", ["bytes=0-1", "bytes=2-3"]), 200);
    assert_eq!(ask("DELETE", "If-Match", [other, tag]), 204);
}
