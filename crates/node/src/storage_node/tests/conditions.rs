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

#[test]
fn the_date_of_a_new_object_is_no_reason_to_send_a_part() {
    let cluster = Cluster::start(1, 0);
    cluster.wait_until_complete();
    assert_eq!(cluster.request(0, "PUT /key", b"0123456789").0, 201);
    let part = |validator: &str| {
        let fields = format!("Range: bytes=0-1\r\nIf-Range: {validator}\r\n");
        cluster.request_with(0, "GET /key", &fields, b"")
    };
    let tag = "\"781e5e245d69b566979b86e28d23f2c7\"";
    assert_eq!(part(tag), (206, "01".into()));
    // Whatever second the object was written in, its date is among these.
    let now = std::time::SystemTime::now();
    for ago in 0..5 {
        let date = httpdate::fmt_http_date(now - Duration::from_secs(ago));
        assert_eq!(part(&date), (200, "0123456789".into()));
    }
}
