//! Users and their password hashes, as `htpasswd -B` writes them. Sole home of bcrypt.
//!
//! Pure: the text of a file goes in. Verifying costs a tenth of a second of processor by
//! design; where it runs is for others to see to.

use std::{collections::HashMap, sync::Arc};

use bcrypt::HashParts;

/// The least and the most work a hash may ask for: below, a stolen file is soon read; above,
/// one log-in takes a processor for more than seconds.
const COST_MIN: u32 = 5;
const COST_MAX: u32 = 14;
/// What bcrypt reads of a password, in bytes.
const PASSWORD_BYTES_MAX: usize = 72;
/// The longest user name, in bytes: it stands in records.
const USER_BYTES_MAX: usize = 128;

/// The users of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Users {
    /// bcrypt hashes by user name.
    hashes: HashMap<Arc<str>, Arc<str>>,
    /// A hash that no password fits, as costly as the costliest of the file: what unknown users
    /// are compared with, so that the time does not tell who exists.
    nobody: Arc<str>,
}

/// What is wrong with one line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HtpasswdProblem {
    /// The line, from one.
    pub line: usize,
    /// What is wrong. It never shows the hash.
    pub message: String,
    /// The mend.
    pub mend: &'static str,
}

const MEND_HASH: &str = "make the line anew with bcrypt: htpasswd -nB USER";
const MEND_LINE: &str = "write USER:HASH, as `htpasswd -nB USER` prints it";

impl Users {
    /// Reads a file: a user and a hash on each line; empty lines and `#` comments are left out.
    ///
    /// # Errors
    /// Every line that is wrong.
    pub fn parse(text: &str) -> Result<Self, Vec<HtpasswdProblem>> {
        let mut hashes = HashMap::new();
        let mut problems = Vec::new();
        let mut cost = COST_MIN;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let read = user_and_hash(line).and_then(|(user, hash, of_line)| {
                cost = cost.max(of_line);
                match hashes.insert(Arc::from(user), Arc::from(hash)) {
                    None => Ok(()),
                    Some(_) => Err((format!("the user {user:?} stands twice"), "remove one")),
                }
            });
            if let Err((message, mend)) = read {
                problems.push(HtpasswdProblem {
                    line: number + 1,
                    message,
                    mend,
                });
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // A salt and a hash of zeros: finding a password for it is finding a preimage.
        let nobody = format!("$2b${cost:02}${}", ".".repeat(53));
        Ok(Self {
            hashes,
            nobody: nobody.into(),
        })
    }

    /// Whether somebody has this name.
    #[must_use]
    pub fn contains(&self, user: &str) -> bool {
        self.hashes.contains_key(user)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether this is the user's password. Takes as long for a user whom nobody knows. What is
    /// longer than bcrypt reads fits nobody, since two such passwords could be told apart by
    /// nothing.
    #[must_use]
    pub fn verify(&self, user: &str, password: &str) -> bool {
        let known = self.hashes.get(user);
        let hash = known.unwrap_or(&self.nobody);
        let fits = bcrypt::verify(password, hash).unwrap_or(false);
        fits && known.is_some() && password.len() <= PASSWORD_BYTES_MAX
    }
}

type Line<'a> = Result<(&'a str, &'a str, u32), (String, &'static str)>;

fn user_and_hash(line: &str) -> Line<'_> {
    let Some((user, hash)) = line.split_once(':') else {
        return Err((
            "there is no colon after the user's name".to_owned(),
            MEND_LINE,
        ));
    };
    if user.is_empty() || user.len() > USER_BYTES_MAX || user.contains(char::is_control) {
        let message = format!("a user name has 1 to {USER_BYTES_MAX} bytes, none of them control");
        return Err((message, MEND_LINE));
    }
    if !["$2y$", "$2b$", "$2a$"]
        .iter()
        .any(|kind| hash.starts_with(kind))
    {
        let message = format!("the password of {user:?} is {}, not bcrypt", kind_of(hash));
        return Err((message, MEND_HASH));
    }
    let Ok(parts) = hash.parse::<HashParts>() else {
        let message = format!("the hash of {user:?} is not whole");
        return Err((message, MEND_HASH));
    };
    match parts.get_cost() {
        cost @ COST_MIN..=COST_MAX => Ok((user, hash, cost)),
        cost => {
            let message = format!(
                "the hash of {user:?} has the cost {cost}, and {COST_MIN} to {COST_MAX} are taken"
            );
            Err((message, "make the line anew: htpasswd -nB -C 10 USER"))
        }
    }
}

/// What the hash of another kind is called; the hash itself is not shown.
fn kind_of(hash: &str) -> &'static str {
    match hash {
        _ if hash.starts_with("$apr1$") => "an MD5 hash (apr1)",
        _ if hash.starts_with("{SHA}") => "a SHA-1 hash",
        _ if hash.starts_with("$5$") || hash.starts_with("$6$") => "a SHA-crypt hash",
        _ if hash.starts_with("$2x$") => "a hash of a broken bcrypt (2x)",
        _ if hash.starts_with("$argon2") => "an argon2 hash",
        _ => "in the clear, or in a form that is not known",
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(password: &str) -> String {
        bcrypt::hash(password, COST_MIN).expect("a hash")
    }

    #[test]
    fn a_user_is_known_by_the_password_alone() {
        let long = "x".repeat(72);
        let text = format!(
            "# people\n\nalice:{}\nbob:{}\r\nlong:{}\n",
            hash("one"),
            hash("two"),
            hash(&long)
        );
        let users = Users::parse(&text).expect("good");
        assert_eq!(users.len(), 3);
        assert!(users.verify("alice", "one"));
        assert!(users.verify("bob", "two"));
        assert!(users.verify("long", &long));
        for (user, password) in [
            ("alice", "two"),
            ("alice", ""),
            ("carol", "one"),
            ("carol", ""),
            ("Alice", "one"),
            ("", ""),
        ] {
            assert!(!users.verify(user, password), "{user} {password}");
        }
        // bcrypt reads 72 bytes, and the rest would be anybody's.
        assert!(!users.verify("long", &format!("{long}y")));
    }

    #[test]
    fn what_is_not_bcrypt_is_told_by_line() {
        let text = format!(
            "alice:{good}\nbob:$apr1$x$y\ncarol\n:{good}\ndave:secret\nerin:{{SHA}}x\n\
             frank:$2y$31${tail}\nalice:{good}\ngrace:$2y$10$short\nheidi:$2x$10${tail}\n",
            good = hash("x"),
            tail = ".".repeat(53),
        );
        let problems = Users::parse(&text).expect_err("problems");
        let told: Vec<(usize, &str)> = problems
            .iter()
            .map(|problem| (problem.line, problem.message.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    2,
                    "the password of \"bob\" is an MD5 hash (apr1), not bcrypt"
                ),
                (3, "there is no colon after the user's name"),
                (4, "a user name has 1 to 128 bytes, none of them control"),
                (
                    5,
                    "the password of \"dave\" is in the clear, or in a form that is not known, not \
                     bcrypt"
                ),
                (6, "the password of \"erin\" is a SHA-1 hash, not bcrypt"),
                (
                    7,
                    "the hash of \"frank\" has the cost 31, and 5 to 14 are taken"
                ),
                (8, "the user \"alice\" stands twice"),
                (9, "the hash of \"grace\" is not whole"),
                (
                    10,
                    "the password of \"heidi\" is a hash of a broken bcrypt (2x), not bcrypt"
                ),
            ]
        );
    }
}
