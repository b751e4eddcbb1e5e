//! The run that the demo tells: a shop, a chat about a late parcel, an agent that cancels the order, and staff that take it back.
//!
//! The run is data: who, when, what, against which version. What an author has read is really read, from the log as it is at that moment;
//! so versions and digests of states are on record as they were, and not as the story would like them.

use chainring::{AuthorityRef, Class, Event, EventId, Expected, ReadRef, Reversibility, Value, Version};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::author::{Also, Author, Refusal};
use super::folded::{Folded, seen};
use crate::form::members::hex;
use crate::output::Failure;

pub(super) const ORDER: &str = "order-#W1042";
pub(super) const PAYMENT: &str = "payment-#W1042";
const POLICY: &str = "policy-cancellations";
const CUSTOMER: &str = "customer-mara_lindt";
const RUN: &str = "run-support-88";

const MARA: &str = "user:mara_lindt";
const AGENT: &str = "agent:support-4";
const DISPATCH: &str = "agent:dispatch-2";
const INES: &str = "staff:ines_okafor";
const NOOR: &str = "staff:noor_haddad";
const CHECKOUT: &str = "service:checkout";
const WAREHOUSE: &str = "service:warehouse";
const CHAT: &str = "service:chat";
const TOOLS: &str = "service:tools";

const POLICY_TEXT_1: &str = "# Cancellations
cancel-order: Agents may cancel unshipped orders if asked.
";
const POLICY_TEXT_2: &str = "# Cancellations
cancel-order: Agents may cancel pending orders, once confirmed.
reinstate-order: Staff may undo a wrong cancellation.
";

const REGISTERED: &str = r#"{"set":{"name":"Mara Lindt","email":"mara@example.com"}}"#;
const PLACED: &str =
    r##"{"set":{"order_id":"#W1042","customer":"mara_lindt","items":[{"sku":"tent-2p","price":189.90}],"status":"pending"}}"##;
const CAPTURED: &str = r##"{"set":{"order_id":"#W1042","method":"card","amount":189.90,"currency":"EUR","status":"captured"}}"##;
const STARTED: &str = r#"{"agent":"support-4","model":"example-large-2","channel":"chat"}"#;
const PACKED: &str = r#"{"set":{"status":"packed","parcel":"P-5521"}}"#;
const GET_ORDER: &str = r##"{"tool":"get_order","args":{"order_id":"#W1042"},"mutating":false}"##;
const GOT_ORDER: &str = r#"{"tool":"get_order","content":"packed, not handed to the carrier yet"}"#;
const CANCEL_ORDER: &str = r##"{"tool":"cancel_order","args":{"order_id":"#W1042"},"mutating":true}"##;
const CANCELLED: &str = r#"{"set":{"status":"cancelled","cancel_reason":"the customer asked for it"}}"#;
const REFUNDED: &str = r#"{"set":{"status":"refunded","refunded":189.90}}"#;
const CANCEL_DONE: &str = r#"{"tool":"cancel_order","content":"done"}"#;
const SHIPPED: &str = r#"{"set":{"status":"shipped"}}"#;
const HANDED_OVER: &str = r#"{"to":"staff:noor_haddad","why":"the customer objects"}"#;
const REINSTATED: &str = r#"{"set":{"status":"packed"},"unset":["cancel_reason"]}"#;
const REVERSED: &str = r#"{"set":{"status":"captured"},"unset":["refunded"]}"#;
const ENDED: &str = r#"{"outcome":"the order stands"}"#;

/// The chat up to the question that the agent gets wrong.
#[derive(Debug)]
pub(super) struct Chat {
    /// The policy the agent was started with.
    policy: AuthorityRef,
    /// All that the agent has been shown.
    reads: Vec<ReadRef>,
    question: EventId,
}

/// What the agent did.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The cancellation.
    pub(super) cancelled: EventId,
    /// The refund, in the same batch.
    pub(super) refunded: EventId,
    /// What the log said to the same batch when all that had been read was required to be so still.
    pub(super) gated: Refusal,
    /// What it said to another agent that had read the order before it was cancelled.
    pub(super) stale: Refusal,
}

/// What took it back.
#[derive(Debug)]
pub(super) struct Remedy {
    pub(super) reinstated: EventId,
    pub(super) reversed: EventId,
}

/// Policy, customer, order; a chat begins; the policy changes, the order is packed, and the customer asks where it is.
pub(super) fn a_parcel_is_late(author: &Author<'_>) -> Result<Chat, Failure> {
    publish(author, "09:00:00", 0, POLICY_TEXT_1)?;
    author.append(author.event("10:12:40", CUSTOMER, 0, "CustomerRegistered", MARA, REGISTERED))?;
    let placed = author.event("10:31:07", ORDER, 0, "OrderPlaced", CHECKOUT, PLACED).on_behalf_of(MARA);
    let captured = author.event("10:31:07", PAYMENT, 0, "PaymentCaptured", CHECKOUT, CAPTURED).on_behalf_of(MARA);
    let captured = captured.caused_by(placed.id.unwrap_or_default()).undoable(Reversibility::ExternallyReversible);
    author.append_both([placed.undoable(Reversibility::Reversible), captured], &[])?;

    let policy = policy_in_force(author)?;
    let mut reads = seen(&author.now(), &[POLICY])?;
    author.append(author.event("14:03:12", RUN, 0, "RunStarted", CHAT, STARTED).correlation(RUN).having_read(&reads))?;
    says(author, "14:03:31", 1, MARA, "Hello, it is about order #W1042.", None)?;
    publish(author, "14:05:00", 1, POLICY_TEXT_2)?;
    author.append(author.event("14:06:40", ORDER, 1, "OrderPacked", WAREHOUSE, PACKED).undoable(Reversibility::Reversible))?;
    let question = says(author, "14:12:48", 2, MARA, "It is late. Where is my parcel?", None)?;

    let call = author.event("14:12:51", RUN, 3, "ToolCalled", AGENT, GET_ORDER).correlation(RUN).caused_by(question);
    let call = author.append(call.class(Class::Intent).undoable(Reversibility::ReadOnly))?;
    let facts = seen(&author.now(), &[CUSTOMER, ORDER, PAYMENT])?;
    let returned = author.event("14:12:52", RUN, 4, "ToolReturned", TOOLS, GOT_ORDER).correlation(RUN).caused_by(call);
    author.append(returned.class(Class::Observation).undoable(Reversibility::ReadOnly).having_read(&facts))?;
    reads.extend(facts);
    Ok(Chat { policy, reads, question })
}

/// The agent takes the question for a wish, and cancels by the policy it was started with. Another agent wants to ship the order meanwhile.
pub(super) fn the_agent_cancels(author: &Author<'_>, chat: &Chat) -> Result<Mistake, Failure> {
    let dispatch_saw = seen(&author.now(), &[ORDER, PAYMENT])?;
    let call = author.event("14:14:02", RUN, 5, "ToolCalled", AGENT, CANCEL_ORDER).correlation(RUN).caused_by(chat.question);
    let call = author.append(call.class(Class::Intent).undoable(Reversibility::ExternallyReversible).having_read(&chat.reads))?;

    let rule = AuthorityRef { rule: Some("cancel-order".into()), confirmed_by: Some(chat.question), ..chat.policy.clone() };
    let checked = seen(&author.now(), &[ORDER, PAYMENT])?;
    let decided = |event: Event| {
        let mut event = event.on_behalf_of(MARA).correlation(RUN).allowed_by(&rule).having_read(&chat.reads);
        let attributes = [("on_behalf_of_basis", "claimed"), ("model", "example-large-2"), ("tool", "cancel_order")];
        event.metadata.attributes = attributes.map(|(name, value)| (name.to_owned(), Value::text(value))).into();
        event.metadata.checked = Some(checked.clone());
        event
    };
    let cancelled = author.event("14:14:03", ORDER, 2, "OrderCancelled", AGENT, CANCELLED).caused_by(call);
    let refunded = author.event("14:14:03", PAYMENT, 1, "PaymentRefunded", AGENT, REFUNDED);
    let refunded = refunded.caused_by(cancelled.id.unwrap_or_default()).undoable(Reversibility::ExternallyReversible);
    let batch = [decided(cancelled.undoable(Reversibility::Reversible)), decided(refunded)];
    let gated = author.refused(&batch, &chat.reads)?;
    let [cancelled, refunded] = author.append_both(batch, &[])?;

    let returned = author.event("14:14:04", RUN, 6, "ToolReturned", TOOLS, CANCEL_DONE).correlation(RUN).caused_by(call);
    let returned = returned.class(Class::Outcome).undoable(Reversibility::ReadOnly);
    let returned = author.append(returned.having_read(&seen(&author.now(), &[ORDER, PAYMENT])?))?;
    let said = says(author, "14:14:09", 7, AGENT, "Cancelled. 189.90 EUR are refunded.", Some(returned))?;

    // This one has its id drawn: it is never stored.
    let shipped = Event::new(ORDER, "OrderShipped").actor(DISPATCH).body(SHIPPED).having_read(&dispatch_saw);
    let shipped = shipped.expected(Expected::Exactly(Version(dispatch_saw[0].version)));
    let stale = author.refused(&[shipped], &dispatch_saw[1..])?;

    let angry = says(author, "14:15:20", 8, MARA, "I never asked you to cancel it!", Some(said))?;
    let handed_over = author.event("14:16:05", RUN, 9, "HandedOver", AGENT, HANDED_OVER).correlation(RUN).caused_by(angry);
    author.append(handed_over.class(Class::Handoff))?;
    Ok(Mistake { cancelled, refunded, gated, stale })
}

/// Staff ask, read what is so now, and take both back at once, by the policy that is in force.
pub(super) fn staff_take_it_back(author: &Author<'_>, mistake: &Mistake) -> Result<Remedy, Failure> {
    let yes = author.event("14:21:10", RUN, 10, "UserMessage", MARA, r#"{"text":"Yes please, I want the tent."}"#).correlation(RUN);
    let yes = author.append(yes.class(Class::Approval))?;
    let reads = seen(&author.now(), &[POLICY, ORDER, PAYMENT])?;
    let rule = AuthorityRef { rule: Some("reinstate-order".into()), confirmed_by: Some(yes), ..policy_in_force(author)? };
    let takes_back = |event: Event, target: EventId| {
        let mut event = event.on_behalf_of(MARA).correlation(RUN).caused_by(yes).allowed_by(&rule).having_read(&reads);
        event.metadata.compensates = Some(target);
        event.class(Class::Compensation).undoable(Reversibility::Reversible)
    };
    let reinstated = takes_back(author.event("14:22:00", ORDER, 3, "OrderReinstated", NOOR, REINSTATED), mistake.cancelled);
    let reversed = takes_back(author.event("14:22:00", PAYMENT, 2, "RefundReversed", NOOR, REVERSED), mistake.refunded);
    // This time all that was read has to be so still.
    let [reinstated, reversed] = author.append_both([reinstated, reversed], &reads)?;
    author.append(author.event("14:22:40", RUN, 11, "RunEnded", NOOR, ENDED).correlation(RUN).caused_by(reinstated))?;
    Ok(Remedy { reinstated, reversed })
}

fn publish(author: &Author<'_>, at: &str, version: u64, text: &str) -> Result<EventId, Failure> {
    let sha256 = hex(&Sha256::digest(text));
    let body = json!({ "set": { "policy": "cancellations", "version": (version + 1).to_string(), "text": text, "sha256": sha256 } });
    let event = author.event(at, POLICY, version, "PolicyPublished", INES, &body.to_string());
    author.append(event.class(Class::Authority).undoable(Reversibility::Reversible))
}

fn says(author: &Author<'_>, at: &str, version: u64, who: &str, text: &str, cause: Option<EventId>) -> Result<EventId, Failure> {
    let event_type = if who == AGENT { "AgentMessage" } else { "UserMessage" };
    let mut event = author.event(at, RUN, version, event_type, who, &json!({ "text": text }).to_string()).correlation(RUN);
    event.metadata.causation = cause;
    author.append(event)
}

/// The policy as it is now, without a rule yet.
fn policy_in_force(author: &Author<'_>) -> Result<AuthorityRef, Failure> {
    let view = author.now();
    let newest = view.stream(POLICY)?.and_then(|stream| stream.backward().next());
    let newest = newest.ok_or_else(|| Failure::No("no policy was published".into()))??;
    let policy = Folded::of(&view, POLICY)?;
    Ok(AuthorityRef {
        stream: Some(POLICY.into()),
        version: Some(policy.version),
        policy: policy.field("policy"),
        policy_version: policy.field("version"),
        digest: policy.field("text").map(|text| Sha256::digest(text).to_vec()),
        event: Some(newest.event_id()),
        ..AuthorityRef::default()
    })
}
