//! The decision record: what events were decided against, what came of them, and how they are taken back; on two real histories, and on small ones that have
//! what those lack.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Place, histories, import, read_json, run, run_with_input, sha256, unpacked};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn ask(place: &Place, args: &[&str]) -> Value {
    let ran = run(&place.log(), &[args, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{args:?}: {} {}", ran.out, ran.err);
    ran.json()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// States of all streams, by name.
fn states(place: &Place) -> BTreeMap<String, String> {
    let table = run(&place.log(), &["state", "--all", "--format", "tsv"]).yes();
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        (columns[0].to_owned(), columns[2].to_owned())
    };
    table.lines().map(row).collect()
}

/// A probe of a truth file, by `explain` and `dependents`.
fn assert_probe(place: &Place, probe: &Value) {
    let id = probe["id"].as_str().unwrap();
    let told = ask(place, &["explain", id]);
    for (name, expected) in [("id", &probe["id"]), ("stream", &probe["stream"]), ("version", &probe["version"]), ("type", &probe["type"])] {
        assert_eq!(&told["event"][name], expected, "{id} {name}");
    }
    assert_eq!(told["authority"], probe["authority"], "{id}");
    assert_eq!(told["wrote"]["before_sha256"], probe["state_before_sha256"], "{id}");
    assert_eq!(told["wrote"]["after_sha256"], probe["state_after_sha256"], "{id}");
    assert_eq!(told["wrote"]["stream"], probe["stream"]);
    for name in ["reads", "checked"] {
        let (found, expected) = (told[name].as_array().unwrap(), probe[name].as_array().unwrap());
        assert_eq!(found.len(), expected.len(), "{id} {name}");
        for (found, expected) in found.iter().zip(expected) {
            for (member, value) in expected.as_object().unwrap() {
                assert_eq!(&found[member], value, "{id} {name} {member}");
            }
            let digest = found["value_sha256"].as_str().unwrap();
            assert!(expected["state"].as_str().is_none_or(|state| digest.starts_with(state)), "{id}: {found}");
        }
    }
    let is_stale = told["reads"].as_array().unwrap().iter().any(|read| read["stream"] == probe["stream"] && read["is_fresh"] == false);
    assert_eq!(probe["stale"] == true, is_stale, "{id}");
    for (relation, expected) in probe["dependents"].as_object().unwrap() {
        let found = ask(place, &["dependents", id, "--relation", relation]);
        let mut ids = texts(&found["ids"]);
        assert_eq!((&found["count"], ids.len()), (&expected["count"], expected["count"].as_u64().unwrap() as usize), "{id} {relation}");
        ids.sort_unstable();
        assert_eq!(sha256(ids.join("\n")), expected["ids_sha256"].as_str().unwrap(), "{id} {relation}");
    }
    assert_eq!(told["dependents"]["count"], probe["dependents"]["causation+reads"]["count"]);
}

/// The history without an event and all that depends on it, against the history with the plan followed.
fn assert_undone(name: &str, source: &str, id: &str) -> bool {
    let whole = Place::new(&format!("undo-{name}"));
    let lines = whole.write("lines", source);
    import(&whole.log(), &lines, &[]);
    let plan = run(&whole.log(), &["undo-plan", id, "--json"]).yes();
    let told: Value = serde_json::from_str(&plan).unwrap();
    let mut gone: BTreeSet<&str> = texts(&told["events"]).into_iter().collect();
    assert!(gone.remove(id), "the plan takes the event itself back");
    let dependents = ask(&whole, &["dependents", id]);
    assert_eq!(gone, texts(&dependents["ids"]).into_iter().collect());
    gone.insert(id);

    let without = Place::new(&format!("without-{name}"));
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let mut kept = String::new();
    for line in source.lines() {
        // As text: nothing but the version may change, not even the last digit of a price.
        let mut event: BTreeMap<&str, Box<RawValue>> = serde_json::from_str(line).unwrap();
        let text = |name: &str| event[name].get().trim_matches('"').to_owned();
        if !gone.contains(text("id").as_str()) {
            let version = versions.entry(text("stream")).or_default();
            *version += 1;
            event.insert("version", RawValue::from_string(version.to_string()).unwrap());
            kept += &serde_json::to_string(&event).unwrap();
            kept.push('\n');
        }
    }
    import(&without.log(), &without.write("lines", kept), &[]);
    let file = whole.write("plan.json", &plan);
    let compensate = ["compensate", "--plan", file.to_str().unwrap(), "--actor", "clerk", "--json"];
    if told["reversible"] != true {
        assert_eq!(run(&whole.log(), &compensate).code, 1, "{}", told["conflicts"]);
        return false;
    }
    let steps = told["steps"].as_array().unwrap().len();
    assert_eq!(run(&whole.log(), &compensate).json()["appended"], steps);
    let (after, other) = (states(&whole), states(&without));
    let differing: Vec<_> = after.iter().filter(|(stream, state)| other.get(*stream) != Some(state)).collect();
    assert!(differing.is_empty() && after.len() == other.len(), "{id}: {differing:?}");
    // The plan again: nothing more happens.
    assert_eq!(run(&whole.log(), &compensate).json()["duplicate"], steps > 0);
    assert_eq!(run(&whole.log(), &["verify"]).code, 0);
    true
}

fn answers(name: &str) {
    let Some(folder) = histories(name) else { return };
    let place = Place::new(&format!("decision-{name}"));
    let packed = folder.join(format!("{name}.jsonl.zst"));
    let truth = read_json(&folder.join(format!("{name}.truth.json")));
    import(&place.log(), &packed, &[]);
    let probes = truth["probes"].as_array().unwrap();
    probes.iter().for_each(|probe| assert_probe(&place, probe));
    // Not from an index: all of it read.
    let all = ask(&place, &["authorised-by", "retail-policy@1"]);
    let source = unpacked(&packed);
    let named: Vec<&str> = source.lines().filter(|line| line.contains(r#""authority":{"#)).collect();
    assert_eq!(all["count"], named.len());
    assert_eq!(run(&place.log(), &["wrong-authority", "--json"]).yes(), "");
    let undone = probes.iter().filter(|probe| {
        let id = probe["id"].as_str().unwrap();
        assert_undone(name, &source, id)
    });
    assert!(undone.count() >= 18, "nearly all of these can be taken back");
}

#[test]
fn probes_of_agents_in_worlds_of_their_own() {
    answers("retail-runs");
}

#[test]
fn probes_of_agents_in_one_world() {
    answers("retail-shared");
}

/// A line of the form; `more` is laid over it.
fn line(stream: &str, version: u64, id: &str, more: Value) -> String {
    let mut line = json!({ "stream": stream, "version": version, "type": "E", "id": id });
    if let Value::Object(more) = more {
        line.as_object_mut().unwrap().extend(more);
    }
    format!("{line}\n")
}

fn filled(name: &str, lines: &[String]) -> Place {
    let place = Place::new(name);
    let ran = run_with_input(&place.log(), &["import", "-", "--json"], lines.concat().as_bytes());
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    place
}

#[test]
fn what_depends_on_an_event_and_what_does_not() {
    let read = |stream: &str, version: u64| json!([{ "stream": stream, "version": version }]);
    let place = filled(
        "dependents",
        &[
            line("a", 1, "a1", json!({})),
            line("a", 2, "a2", json!({})),
            line("b", 1, "stale", json!({ "reads": read("a", 1) })),
            line("b", 2, "fresh", json!({ "reads": read("a", 2) })),
            line("c", 1, "caused", json!({ "causation": "fresh" })),
            line("d", 1, "checked", json!({ "checked": read("c", 1) })),
            line("d", 2, "through-checked", json!({ "reads": read("d", 1) })),
            line("e", 1, "alone", json!({ "reads": read("elsewhere", 5), "causation": "nobody" })),
            // In one batch, the later one first.
            line("f", 1, "effect", json!({ "batch": "x", "causation": "cause" })),
            line("f", 2, "cause", json!({ "batch": "x", "reads": read("b", 2) })),
        ],
    );
    let ids = |event: &str, relation: &str| -> Vec<String> {
        let told = ask(&place, &["dependents", event, "--relation", relation]);
        texts(&told["ids"]).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(ids("a2", "causation+reads"), ["fresh", "caused", "effect", "cause"]);
    assert_eq!(ids("a1", "causation+reads"), ["stale", "fresh", "caused", "effect", "cause"]);
    assert_eq!(ids("a2", "causation+reads+checked"), ["fresh", "caused", "checked", "through-checked", "effect", "cause"]);
    assert_eq!(ids("effect", "causation+reads"), Vec::<String>::new());
    assert_eq!(run(&place.log(), &["dependents", "nobody"]).code, 1);

    let told = ask(&place, &["explain", "alone"]);
    assert_eq!(
        (&told["caused_by"]["missing"], &told["reads"][0]["head"], &told["reads"][0]["value"]),
        (&json!(true), &json!(0), &Value::Null)
    );
    assert_eq!((&told["authority"], &told["checked"]), (&Value::Null, &json!([])));
    assert_eq!((&told["wrote"]["before"], &told["wrote"]["before_version"]), (&Value::Null, &json!(0)));
}

#[test]
fn an_event_is_found_by_its_time() {
    let at = |time: &str| json!({ "time": format!("2025-08-01T{time}Z"), "data": { "set": { "at": time } } });
    let place =
        filled("explain-at", &[line("s", 1, "a", at("14:00:00")), line("s", 2, "b", at("14:14:00")), line("s", 3, "c", at("15:00:00"))]);
    let told = ask(&place, &["explain", "--at", "2025-08-01T14:20:00Z", "--stream", "s"]);
    assert_eq!((&told["event"]["id"], &told["wrote"]["after"]["at"]), (&json!("b"), &json!("14:14:00")));
    assert_eq!(told["wrote"]["changed"], json!([{ "field": "at", "before": "14:00:00", "after": "14:14:00" }]));
    assert_eq!(run(&place.log(), &["explain", "--at", "2025-08-01T13:00:00Z", "--stream", "s"]).code, 1);
    assert_eq!(run(&place.log(), &["explain"]).code, 2);
}

/// Appends what a plan says; gives the answer.
fn follow(place: &Place, plan: &Value, more: &[&str]) -> common::Ran {
    let file = place.write("plan.json", plan.to_string());
    run(&place.log(), &[&["compensate", "--plan", file.to_str().unwrap(), "--json"], more].concat())
}

#[test]
fn what_is_taken_back_can_be_taken_back() {
    let set = |value: u64| json!({ "data": { "set": { "n": value } } });
    let place = filled("undo-of-undo", &[line("s", 1, "one", set(1)), line("s", 2, "two", set(2))]);
    let value = || ask(&place, &["state", "s"])["state"]["n"].clone();
    let plan = ask(&place, &["undo-plan", "two"]);
    assert_eq!((&plan["reversible"], &plan["steps"][0]["data"]), (&json!(true), &json!({ "set": { "n": 1 } })));
    let done = follow(&place, &plan, &[]).json();
    assert_eq!((&done["appended"], value()), (&json!(1), json!(1)));

    // At most one at a time.
    let again = ask(&place, &["undo-plan", "two"]);
    assert_eq!((&again["reversible"], &again["conflicts"][0]["kind"]), (&json!(false), &json!("already-compensated")));
    let mut forged = plan.clone();
    forged["steps"][0]["expected_version"] = 3.into();
    assert_eq!(follow(&place, &forged, &[]).code, 1);

    // The undo is taken back, and then the event again.
    let undo = done["ids"][0].as_str().unwrap();
    assert_eq!(follow(&place, &ask(&place, &["undo-plan", undo]), &[]).code, 0);
    assert_eq!(value(), json!(2));
    let plan = ask(&place, &["undo-plan", "two"]);
    assert_eq!(plan["reversible"], true);
    assert_eq!(follow(&place, &plan, &[]).json()["appended"], 1);
    assert_eq!(value(), json!(1));
}

#[test]
fn a_plan_does_not_take_along_what_it_should_not() {
    let set = |fields: Value| json!({ "data": { "set": fields } });
    let place = filled(
        "undo-conflicts",
        &[
            line("s", 1, "made", set(json!({ "status": "new", "note": "" }))),
            line("s", 2, "status", set(json!({ "status": "cancelled" }))),
            line("s", 3, "note", set(json!({ "note": "called" }))),
            line("s", 4, "overwrite", set(json!({ "status": "shipped" }))),
            line("t", 1, "created", json!({ "causation": "note", "data": { "set": { "x": 1 } } })),
        ],
    );
    // What came later stays, and is named where it is about the same.
    let plan = ask(&place, &["undo-plan", "status"]);
    assert_eq!((&plan["reversible"], &plan["steps"]), (&json!(true), &json!([])));
    let plan = ask(&place, &["undo-plan", "overwrite"]);
    assert_eq!(plan["steps"][0]["data"], json!({ "set": { "status": "cancelled" } }));
    // A stream that would not exist cannot be made so.
    let plan = ask(&place, &["undo-plan", "note"]);
    assert_eq!((&plan["reversible"], &plan["conflicts"][0]["kind"]), (&json!(false), &json!("created")));
    assert_eq!(follow(&place, &plan, &[]).code, 1);
    assert_eq!(follow(&place, &plan, &["--accept-rest"]).json()["appended"], 2);
    assert_eq!(ask(&place, &["state", "s"])["state"], json!({ "note": "", "status": "shipped" }));
    assert_eq!(ask(&place, &["state", "t"])["state"], json!({}));

    // A plan holds for the versions it was made against.
    let late = ask(&place, &["undo-plan", "overwrite"]);
    run_with_input(&place.log(), &["import", "-"], line("s", 6, "later", set(json!({ "note": "!" }))).as_bytes()).yes();
    let refused = follow(&place, &late, &[]);
    assert!(refused.code == 1 && refused.err.contains("does not hold any more"), "{}", refused.err);
    for bad in [json!({}), json!({ "steps": [{}], "reversible": true })] {
        assert_eq!(follow(&place, &bad, &[]).code, 1);
    }
}

#[test]
fn half_a_batch_is_named_and_can_be_taken_along() {
    let pay = |value: u64| json!({ "batch": "x", "data": { "set": { "n": value } } });
    let lines = [
        line("order", 1, "o1", json!({ "data": { "set": { "n": 0 } } })),
        line("card", 1, "c1", json!({ "data": { "set": { "n": 0 } } })),
        line("order", 2, "cancel", pay(1)),
        line("card", 2, "refund", pay(2)),
    ];
    let place = filled("undo-batch", &lines);
    let half = ask(&place, &["undo-plan", "cancel"]);
    assert_eq!((&half["conflicts"][0]["kind"], &half["conflicts"][0]["event"]), (&json!("split-batch"), &json!("refund")));
    let whole = ask(&place, &["undo-plan", "cancel", "--batch"]);
    assert_eq!((&whole["conflicts"], texts(&whole["events"])), (&json!([]), vec!["refund", "cancel"]));
    assert_eq!(follow(&place, &whole, &["--reason", "nobody asked"]).json()["appended"], 2);
    assert_eq!(ask(&place, &["state", "card"])["state"]["n"], 0);
}

#[test]
fn authorities_that_were_not_in_force_are_named() {
    let policy = |more: Value| {
        let mut policy = json!({ "type": "PolicyPublished", "data": { "text": "be kind" } });
        policy["data"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy
    };
    let by = |id: &str| json!({ "time": "2025-08-01T14:00:00Z", "authority": { "policy": "p", "rule": "r", "event": id } });
    let text = sha256("be kind");
    let place = filled(
        "wrong-authority",
        &[
            line("early", 1, "early", by("p1")),
            line("p", 1, "p1", policy(json!({}))),
            line("s", 1, "good", json!({ "authority": { "event": "p1", "sha256": text } })),
            line("s", 2, "other-text", json!({ "authority": { "event": "p1", "sha256": sha256("be cruel") } })),
            line("p", 2, "p2", policy(json!({ "valid_to": "2025-08-01T13:00:00Z" }))),
            line("s", 3, "superseded", by("p1")),
            line("s", 4, "expired", by("p2")),
            line("q", 1, "q1", policy(json!({ "scope": { "streams": ["order-"], "types": ["E"] } }))),
            line("s", 5, "out-of-scope", by("q1")),
            line("order-1", 1, "in-scope", by("q1")),
            line("q", 2, "used", json!({ "type": "GrantUsed" })),
            line("order-1", 2, "still-in-scope", by("q1")),
            line("q", 3, "q3", json!({ "type": "GrantRevoked" })),
            line("order-1", 3, "revoked", by("q1")),
            line("s", 6, "missing", by("nobody")),
            line("s", 7, "nothing", json!({})),
        ],
    );
    let wrong = |args: &[&str]| -> BTreeMap<String, String> {
        let told = run(&place.log(), &[&["wrong-authority", "--json"], args].concat()).yes();
        let rows = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row["authority"]["force"].as_str().unwrap().to_owned())).collect()
    };
    let named: Vec<&str> = vec!["expired", "missing", "other-text", "out-of-scope", "revoked", "superseded"];
    let mut expected: BTreeMap<String, String> = named.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
    expected.insert("early".into(), "not-yet".into());
    assert_eq!(wrong(&[]), expected);
    assert_eq!(wrong(&["--authority", "elsewhere"]), BTreeMap::new());
    expected.insert("nothing".into(), "missing".into());
    let mut required = wrong(&["--require", "E"]);
    assert_eq!(required.remove("nothing").as_deref(), Some("missing"));

    let allowed = |name: &str| -> Vec<String> {
        let told = ask(&place, &["authorised-by", name]);
        texts(&told["ids"]).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(allowed("q"), ["out-of-scope", "in-scope", "still-in-scope", "revoked"]);
    assert_eq!(allowed("p2"), ["expired"]);
    assert_eq!(allowed("p@1"), ["early", "good", "other-text", "superseded"]);
    assert_eq!(allowed("r").len(), 8);
    let told = ask(&place, &["explain", "superseded"]);
    assert_eq!((&told["authority_found"][0]["force"], &told["authority_found"][0]["by_version"]), (&json!("superseded"), &json!(2)));
}

#[test]
fn a_full_gate_keeps_out_what_was_decided_against_another_state_or_without_leave() {
    let read = |version: u64| json!([{ "stream": "a", "version": version }]);
    let by = |id: &str| json!({ "event": id });
    let lines = [
        line("p", 1, "p1", json!({ "type": "PolicyPublished" })),
        line("a", 1, "a1", json!({})),
        line("b", 1, "fresh", json!({ "batch": "1", "reads": read(1), "authority": by("p1") })),
        line("b", 2, "stale", json!({ "batch": "2", "reads": read(0) })),
        line("b", 2, "stale-partner", json!({ "batch": "2" })),
        line("b", 2, "not-gated", json!({ "reads": read(0), "authority": by("nobody"), "expected_version": 7 })),
        line("b", 3, "unheard-of", json!({ "batch": "3", "authority": by("nobody") })),
        line("p", 2, "p2", json!({ "type": "PolicyPublished" })),
        line("b", 3, "superseded", json!({ "batch": "4", "authority": by("p1") })),
        line("b", 3, "in-force", json!({ "batch": "5", "authority": by("p2"), "reads": [{ "stream": "none", "version": 0 }] })),
        // Brought along.
        line("q", 1, "q1", json!({ "batch": "6", "type": "PolicyPublished" })),
        line("b", 4, "by-its-own", json!({ "batch": "6", "authority": by("q1"), "expected_version": 3 })),
        line("b", 5, "expects-otherwise", json!({ "batch": "7", "expected_version": 3 })),
    ];
    let place = Place::new("full-gate");
    let ran = run_with_input(&place.log(), &["import", "-", "--gate", "full", "--json"], lines.concat().as_bytes());
    assert_eq!((ran.code, &ran.json()["refused"]), (1, &json!(5)), "{}", ran.err);
    let exported = run(&place.log(), &["export", "--stream", "b"]).yes();
    let kept: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = kept.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["fresh", "not-gated", "in-force", "by-its-own"]);
    let again = run_with_input(&place.log(), &["import", "-", "--gate", "full", "--json"], lines.concat().as_bytes());
    assert_eq!((&again.json()["events"], &again.json()["duplicates"]), (&json!(0), &json!(8)));
}

#[test]
fn an_import_meets_what_the_log_itself_requires() {
    let place = filled("brakes", &[line("p", 1, "p1", json!({ "type": "PolicyPublished" }))]);
    let log = chainring::Log::open(place.log()).unwrap();
    let paid = chainring::Requirement { streams: vec!["pay-".into()], authority: true, ..chainring::Requirement::default() };
    log.declare(&[paid], "boss").unwrap();
    log.freeze(chainring::Stop::Streams("old-"), "boss").unwrap();
    log.close().unwrap();
    let import = |lines: &[String], more: &[&str]| {
        run_with_input(&place.log(), &[&["import", "-", "--json"], more].concat(), lines.concat().as_bytes())
    };
    let claimed = line("pay-1", 1, "claimed", json!({ "authority": { "event": "p1" } }));
    assert_eq!(import(std::slice::from_ref(&claimed), &[]).code, 0, "what comes from elsewhere is taken at its word");
    let ran = import(&[line("pay-1", 2, "bare", json!({}))], &[]);
    assert!(ran.code == 1 && ran.err.contains("an event in stream pay-1 must have an authority"), "{} {}", ran.code, ran.err);
    let ran = import(&[line("old-1", 1, "late", json!({}))], &[]);
    assert!(ran.code == 1 && ran.err.contains("streams old- is frozen"), "{} {}", ran.code, ran.err);
    let gated = [line("old-1", 1, "late", json!({ "batch": "1" })), line("new-1", 1, "in-time", json!({ "batch": "2" }))];
    let ran = import(&gated, &["--gate", "full"]);
    assert_eq!((ran.code, &ran.json()["refused"], &ran.json()["events"]), (1, &json!(1), &json!(1)), "{}", ran.err);
    // All of it goes to another log and says the same there.
    let exported = run(&place.log(), &["export"]).yes();
    let other = filled("brakes-other", &exported.lines().map(|line| format!("{line}\n")).collect::<Vec<_>>());
    let values = |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    assert_eq!(values(&run(&other.log(), &["export"]).yes()), values(&exported));
    let ran = run_with_input(&other.log(), &["import", "-", "--json"], line("old-1", 1, "late", json!({})).as_bytes());
    assert_eq!(ran.code, 0, "what was in force in one log is told in another, and not in force there");
}

#[test]
fn what_was_tried_left_open_and_could_have_been_done() {
    let lines = [
        line("s", 1, "try", json!({ "class": "intent", "actor": "agent", "data": { "key": "k1" } })),
        line("s", 2, "done", json!({ "class": "intent" })),
        line("s", 3, "outcome", json!({ "class": "outcome", "causation": "done" })),
        line("s", 4, "remark", json!({ "class": "observation", "causation": "try" })),
    ];
    let place = filled("conduct", &lines);
    let open = run(&place.log(), &["open-intents", "--json"]).yes();
    let open: Vec<Value> = open.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (open.len(), &open[0]["id"], &open[0]["class"], &open[0]["data"]["key"]),
        (1, &json!("try"), &json!("intent"), &json!("k1"))
    );

    assert_eq!(run(&place.log(), &["attempts", "agent", "--json"]).yes(), "");
    let log = chainring::Log::open(place.log()).unwrap();
    let types = |types: &[&str]| types.iter().map(|name| (*name).to_owned()).collect();
    let grant = chainring::Grant { types: types(&["Refunded", "Cancelled"]), actors: types(&["agent"]), ..chainring::Grant::default() };
    log.grant("orders", &grant, "boss").unwrap();
    let event = |name: &str| chainring::Event::new("order-1", name).actor("agent");
    log.act(&chainring::Action::new(event("Refunded")).allowed_by("orders", "")).unwrap();
    log.act(&chainring::Action::new(event("Deleted")).allowed_by("orders", "")).unwrap_err();
    log.revoke("orders", "boss").unwrap();
    log.act(&chainring::Action::new(event("Refunded")).allowed_by("orders", "")).unwrap_err();
    log.close().unwrap();
    let attempts = run(&place.log(), &["attempts", "agent", "--json"]).yes();
    let attempts: Vec<Value> = attempts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(attempts.iter().map(|attempt| &attempt["attempt"]).collect::<Vec<_>>(), [&json!(1), &json!(2)]);
    assert_eq!(attempts[0]["reasons"], json!(["grant orders does not cover type Deleted"]));
    assert_eq!(attempts[1]["reasons"], json!(["grant orders is not in force: missing or revoked"]));

    let log = chainring::Log::open(place.log()).unwrap();
    let step = |run: &str, name: &str| {
        let receipt = log.act(&chainring::Action::new(event(name)).in_run(run, 1)).unwrap();
        log.latest().event(receipt.first_position()).unwrap().event_id()
    };
    log.begin_run("r", "agent").unwrap();
    let shared = step("r", "Shared");
    log.branch_run("r/b", "r", shared, "agent").unwrap();
    let (own, after) = (step("r/b", "Own"), step("r", "After"));
    log.close().unwrap();
    let (parent, branch) = (ask(&place, &["run", "r"]), ask(&place, &["run", "r/b"]));
    assert_eq!((&parent["branched"], &parent["branches"], &parent["epoch"]), (&json!(null), &json!(["r/b"]), &json!(1)));
    assert_eq!(parent["ids"], json!([shared.to_string(), after.to_string()]));
    assert_eq!((&branch["branched"]["parent"], &branch["branched"]["at"]), (&json!("r"), &json!(shared.to_string())));
    assert_eq!((&branch["ids"], &branch["count"]), (&json!([shared.to_string(), own.to_string()]), &json!(2)));
    assert_eq!(run(&place.log(), &["run", "nobody"]).code, 1);

    let scope = ask(&place, &["scope", "agent"]);
    assert_eq!((&scope["could"][0]["grant"], &scope["could"].as_array().unwrap().len()), (&json!("orders"), &1));
    assert_eq!((&scope["unused_types"], &scope["any_type"]), (&json!(["Cancelled"]), &json!(false)));
    assert_eq!(
        scope["did"],
        json!([{ "type": "After", "count": 1 }, { "type": "E", "count": 1 }, { "type": "Own", "count": 1 }, { "type": "Refunded", "count": 1 }, { "type": "Shared", "count": 1 }])
    );
    let before = ask(&place, &["scope", "agent", "--between", "2001-01-01T00:00:00Z", "2002-01-01T00:00:00Z"]);
    assert_eq!((&before["could"], &before["did"]), (&json!([]), &json!([])));
    assert_eq!(ask(&place, &["scope", "other"])["could"], json!([]));
    assert_eq!(run(&place.log(), &["wrong-authority", "--json"]).yes(), "", "what is kept of grants is understood here, too");
}

#[test]
fn decisions_are_judged_by_another_version_of_what_allowed_them() {
    let policy = |types: &[&str]| json!({ "type": "PolicyPublished", "data": { "scope": { "types": types } } });
    let by = |id: &str, event_type: &str| json!({ "type": event_type, "authority": { "policy": "refunds", "event": id } });
    let place = filled(
        "re-admit",
        &[
            line("p", 1, "p1", policy(&["Refunded", "Cancelled"])),
            line("s", 1, "refund", by("p1", "Refunded")),
            line("s", 2, "cancel", by("p1", "Cancelled")),
            line("s", 3, "delete", by("p1", "Deleted")),
            line("p", 2, "p2", policy(&["Refunded", "Deleted"])),
        ],
    );
    let differing = |policy: &str| -> Vec<(String, String, String)> {
        let told = run(&place.log(), &["re-admit", "--policy", policy, "--json"]).yes();
        let rows = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| [&row["id"], &row["then"], &row["now"]].map(|text| text.as_str().unwrap().to_owned()).into()).collect()
    };
    let row = |id: &str, then: &str, now: &str| (id.to_owned(), then.to_owned(), now.to_owned());
    let otherwise = [row("cancel", "in-force", "out-of-scope"), row("delete", "out-of-scope", "in-force")];
    assert_eq!(differing("refunds"), otherwise);
    assert_eq!(differing("p@2"), otherwise);
    assert_eq!(differing("refunds@1"), []);
    assert_eq!(run(&place.log(), &["re-admit", "--policy", "refunds@9"]).code, 1);
    run_with_input(&place.log(), &["import", "-"], line("p", 3, "p3", json!({ "type": "PolicyRevoked" })).as_bytes()).yes();
    assert_eq!(differing("refunds").len(), 3);
}
