//! One exchange with the store: reads what others have written, and writes what was learned here.

use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::connection::Connection;
use super::entry::{Entry, Hash, Read, Refused};
use super::settings::Settings;

/// The most fields of a hash that are read, and the most that are in it once it is written.
pub const FIELDS: usize = 32;
/// So many hashes are read and written at once.
const BATCH: usize = 32;

/// What was learned here: entries by hash.
pub type Own = Vec<Vec<Entry>>;

/// What an exchange has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Entries of other gateways that may be used, each with the number of its hash.
    pub entries: Vec<(usize, Entry)>,
    /// Entries that were written.
    pub exported: u64,
    /// What was refused: how much, and the first of it with its key.
    pub refused: u64,
    /// The first of what was refused.
    pub first_refused: Option<(String, Refused)>,
}

impl Exchanged {
    fn refuse(&mut self, hash: &Hash, why: Refused) {
        self.refused += 1;
        self.first_refused.get_or_insert_with(|| (hash.key.clone(), why));
    }
}

/// What is to be written to a hash.
#[derive(Default)]
struct Writes {
    entries: Vec<(String, String)>,
    expired: Vec<Vec<u8>>,
}

/// Connects, authenticates and selects the database.
pub fn connect(settings: &Settings) -> RedisResult<Connection> {
    let mut connection = Connection::open(&settings.server)?;
    if let Some(password) = &settings.password {
        let mut command = redis::cmd("AUTH");
        if let Some(user) = &settings.user {
            command.arg(user);
        }
        command.arg(password.bytes()).exec(&mut connection)?;
    }
    if settings.database != 0 {
        redis::cmd("SELECT").arg(settings.database).exec(&mut connection)?;
    }
    Ok(connection)
}

/// Reads all hashes and writes `own` entries to them; `now` is in seconds since 1970.
///
/// # Errors
/// If the store does not answer in time, or refuses a command.
pub fn exchange(
    connection: &mut Connection,
    hashes: &[Hash],
    own: &Own,
    (gateway, now): (&str, u64),
) -> RedisResult<Exchanged> {
    let mut exchanged = Exchanged::default();
    for (batch, hashes) in hashes.chunks(BATCH).enumerate() {
        let mut reads = redis::pipe();
        for hash in hashes {
            reads.cmd("HLEN").arg(&hash.key);
            // At most so many fields, all of them if there are no more, and never too many.
            reads.cmd("HRANDFIELD").arg(&hash.key).arg(FIELDS).arg("WITHVALUES");
        }
        let replies: Vec<RedisResult<Value>> = reads.ignore_errors().query(connection)?;
        let mut writes = redis::pipe();
        for (number, (hash, replies)) in hashes.iter().zip(replies.chunks(2)).enumerate() {
            let number = batch * BATCH + number;
            let own = own.get(number).map_or(&[][..], Vec::as_slice);
            let Some((count, fields)) = reply(hash, replies, &mut exchanged)? else { continue };
            let to_write =
                compare((number, hash), (count, &fields), own, (gateway, now), &mut exchanged);
            add(&mut writes, hash, &to_write);
            exchanged.exported += to_write.entries.len() as u64;
        }
        if !writes.is_empty() {
            let replies: Vec<RedisResult<Value>> = writes.ignore_errors().query(connection)?;
            replies.into_iter().find(is_fatal).transpose()?;
        }
    }
    Ok(exchanged)
}

fn is_fatal(reply: &RedisResult<Value>) -> bool {
    reply.as_ref().is_err_and(|error| !is_wrong_type(error))
}

fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// Field and value, as they are.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Takes the two replies about a hash; `None`: the key is another kind of value.
fn reply(
    hash: &Hash,
    replies: &[RedisResult<Value>],
    exchanged: &mut Exchanged,
) -> RedisResult<Option<(usize, Fields)>> {
    let [count, fields] = replies else { return Err(unexpected()) };
    match (count, fields) {
        (Err(error), _) | (_, Err(error)) if is_wrong_type(error) => {
            exchanged.refuse(hash, Refused::Type);
            Ok(None)
        }
        (Err(error), _) | (_, Err(error)) => Err(error.clone()),
        (Ok(Value::Int(count)), Ok(Value::Array(items))) => {
            let pairs = items.chunks_exact(2).map(|pair| match pair {
                [Value::BulkString(field), Value::BulkString(value)] => {
                    Ok((field.clone(), value.clone()))
                }
                _ => Err(unexpected()),
            });
            let fields = pairs.collect::<RedisResult<Fields>>()?;
            if *count > FIELDS as i64 {
                exchanged.refuse(hash, Refused::Fields);
            }
            Ok(Some((usize::try_from(*count).unwrap_or(0), fields)))
        }
        _ => Err(unexpected()),
    }
}

fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "a reply of the wrong type").into()
}

/// Sorts the fields of a hash, and decides what is written: own entries that say more than others
/// do of the same site, and no more than fit.
fn compare(
    (number, hash): (usize, &Hash),
    (count, fields): (usize, &Fields),
    own: &[Entry],
    (gateway, now): (&str, u64),
    exchanged: &mut Exchanged,
) -> Writes {
    let mut writes = Writes::default();
    let mut others: Vec<(&[u8], &Entry)> = Vec::new();
    let first = exchanged.entries.len();
    let mut found = Vec::new();
    for (field, value) in fields {
        match hash.read(field, value, now) {
            Ok(Read::Fresh(entry)) if entry.gateway == gateway => {}
            Ok(Read::Fresh(entry)) => {
                found.push(field.as_slice());
                exchanged.entries.push((number, entry));
            }
            Ok(Read::Expired) => writes.expired.push(field.clone()),
            Err(why) => exchanged.refuse(hash, why),
        }
    }
    others.extend(found.into_iter().zip(exchanged.entries[first..].iter().map(|(_, e)| e)));
    let mut free = FIELDS.saturating_sub(count) + writes.expired.len();
    for entry in own {
        let field = hash.field(entry.address);
        let is_it = |known: &[u8]| known == field.as_bytes();
        if others.iter().any(|(known, other)| is_it(known) && !entry.says_more(other)) {
            continue;
        }
        let was_expired = writes.expired.len();
        writes.expired.retain(|known| !is_it(known));
        let is_there = fields.iter().any(|(known, _)| is_it(known));
        if !is_there || writes.expired.len() < was_expired {
            if free == 0 {
                continue;
            }
            free -= 1;
        }
        writes.entries.push((field, entry.value()));
    }
    writes
}

fn add(pipeline: &mut redis::Pipeline, hash: &Hash, writes: &Writes) {
    if !writes.expired.is_empty() {
        pipeline.cmd("HDEL").arg(&hash.key).arg(&writes.expired);
    }
    if !writes.entries.is_empty() {
        let command = pipeline.cmd("HSET").arg(&hash.key);
        for (field, value) in &writes.entries {
            command.arg(field).arg(value);
        }
        let seconds = hash.memory.as_secs() + u64::from(hash.memory.subsec_nanos() > 0);
        pipeline.cmd("EXPIRE").arg(&hash.key).arg(seconds);
    }
}
