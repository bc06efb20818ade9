//! What `--store` and `--store-prefix` take and refuse.

use super::*;

fn redis(text: &str) -> RedisAddress {
    match store(text) {
        Ok(Meeting::Redis(address)) => *address,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_form_is_read() {
    assert_eq!(store(" memory "), Ok(Meeting::Memory));
    let plain = redis("redis://localhost");
    assert_eq!(plain.hosts, [("localhost".to_owned(), 6379)]);
    assert_eq!((plain.tls, plain.database), (false, 0));
    let full = redis("rediss://user:p%40ss%3a%2Fx@redis.example.com:6380/2");
    assert_eq!(full.user.as_deref(), Some("user"));
    assert_eq!(full.password.as_ref().map(Secret::reveal), Some("p@ss:/x"));
    assert_eq!((full.tls, full.database), (true, 2));
    assert_eq!(full.to_string(), "rediss://redis.example.com:6380");
    let raw = redis("valkey://:a@b/c@[::1]:7");
    assert_eq!(raw.password.as_ref().map(Secret::reveal), Some("a@b/c"));
    assert_eq!((raw.user, raw.hosts), (None, vec![("::1".to_owned(), 7)]));
    let sentinel = redis("redis+sentinel://a,b:1/my%20master/3");
    assert_eq!(sentinel.form, RedisForm::Sentinel("my master".to_owned()));
    let ports: Vec<_> = sentinel.hosts.iter().map(|(_, port)| *port).collect();
    assert_eq!((ports, sentinel.database), (vec![26379, 1], 3));
    let cluster = redis("rediss+cluster://a,[2001:db8::1]");
    assert_eq!(
        cluster.to_string(),
        "rediss+cluster://a:6379,[2001:db8::1]:6379"
    );
    assert_eq!(cluster.form, RedisForm::Cluster);
}

#[test]
fn what_has_no_form_is_refused_and_not_repeated() {
    for text in [
        "",
        "redis",
        "Memory",
        "redis://",
        "redis:/c4n4ry@h",
        "reds://:c4n4ry@h",
        "http://:c4n4ry@h",
        "redis+unix://:c4n4ry@h",
        "redis+sentinel://:c4n4ry@h",
        "redis+sentinel://:c4n4ry@h/",
        "redis+cluster://:c4n4ry@h/1",
        "redis+cluster://:c4n4ry@h,",
        "redis://:c4n4ry@h1,h2",
        "redis://:c4n4ry@h:0",
        "redis://:c4n4ry@h:65536",
        "redis://:c4n4ry@h:x",
        "redis://:c4n4ry@h/x",
        "redis://:c4n4ry@h/-1",
        "redis://:c4n4ry@h/65536",
        "redis://:c4n4ry@h?protocol=resp3",
        "rediss://:c4n4ry@h/#insecure",
        "redis://:c4n4ry%@h",
        "redis://:c4n4ry%zz@h",
        "redis://:c4n4ry%ff@h",
        "redis://c4n4ry@h",
        "redis://c4n4ry:@h",
        "redis://:c4n4ry@[::1",
        "redis://:c4n4ry@[c4n4ry]",
        "redis://:c4n4ry@a b",
        "redis://:c4n4ry@é",
    ] {
        let why = store(text).expect_err(text);
        assert!(!why.contains("c4n4ry") && !why.contains('\n'), "{why}");
    }
    let shown = format!("{:?}", redis("redis://u:c4n4ry@h"));
    assert!(!shown.contains("c4n4ry"), "{shown}");
}

#[test]
fn only_a_plain_connection_over_a_network_is_exposed() {
    for local in [
        "redis://localhost",
        "redis://127.9.9.9",
        "redis://[::1]",
        "redis://[::ffff:127.0.0.1]",
        "rediss://example.com",
        "rediss+cluster://a,b",
        "rediss+sentinel://a,b/m",
    ] {
        assert_eq!(redis(local).exposed(), None, "{local}");
    }
    assert_eq!(redis("redis://redis").exposed(), Some("redis"));
    assert_eq!(redis("redis://10.0.0.1").exposed(), Some("10.0.0.1"));
    // Where sentinels and nodes send it, nobody knows beforehand.
    for named in [
        "redis+sentinel://localhost,h2/m",
        "redis+cluster://localhost",
    ] {
        assert_eq!(redis(named).exposed(), Some("localhost"), "{named}");
    }
    assert_eq!(
        redis("redis://localhost.evil").exposed(),
        Some("localhost.evil")
    );
}

#[test]
fn prefixes_are_plain() {
    assert_eq!(prefix(" team:ferry-1 ").as_deref(), Ok("team:ferry-1"));
    for bad in ["", "{a}", "a*", "a b", "é", &"x".repeat(65)] {
        assert!(prefix(bad).is_err(), "{bad}");
    }
}
