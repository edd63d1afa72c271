//! Administration of users.
//!
//! D1 nobody gives away what it does not hold: see `auth::user`; the scopes of the asking token are the measure.
//! D2 nobody locks itself out: a user cannot disable or delete the user that it asks as.

use secrecy::SecretString;

use super::{Context, Done, Engine, EngineError};
use crate::auth::{NewUser, Operation, User, UserChange, UserError, UserId, UserWithPassword, Users};

/// Longest part of a text that names no user which its error repeats.
const MAX_SHOWN_CHARACTERS: usize = 128;

impl Engine {
    /// All users by username, disabled ones among them.
    pub async fn list_users(&self, context: &Context) -> Result<Vec<User>, EngineError> {
        self.perform(context, Operation::ListUsers, None, async {
            let list = self.users(context)?.list().await?;
            let rows = list.len();
            Ok(Done::new(list).rows(rows))
        })
        .await
    }

    /// One user, by id or username, as in all of these.
    pub async fn get_user(&self, context: &Context, user: &str) -> Result<User, EngineError> {
        self.perform(context, Operation::GetUser, Some(user), async {
            Ok(done(named(&self.users(context)?, user).await?))
        })
        .await
    }

    /// Registers a user whose scopes the caller holds (D1).
    pub async fn create_user(
        &self,
        context: &Context,
        new: &NewUser,
    ) -> Result<UserWithPassword, EngineError> {
        self.perform(context, Operation::CreateUser, None, async {
            let made = self.users(context)?.create(new).await?;
            Ok(Done { touched: Some(made.user.user_id.to_string()), ..Done::new(made) })
        })
        .await
    }

    /// Changes display name, scopes and claims; the caller must hold the scopes that the user gains, and for other claims
    /// all of them (D1).
    pub async fn update_user(
        &self,
        context: &Context,
        user: &str,
        change: &UserChange,
    ) -> Result<User, EngineError> {
        self.perform(context, Operation::UpdateUser, Some(user), async {
            let users = self.users(context)?;
            let user_id = named(&users, user).await?.user_id;
            Ok(done(users.update(&user_id, change).await?))
        })
        .await
    }

    /// Gives a user another password, or makes one. The caller must hold all of the user's scopes, since the password is
    /// theirs (D1).
    pub async fn set_user_password(
        &self,
        context: &Context,
        user: &str,
        password: Option<SecretString>,
    ) -> Result<UserWithPassword, EngineError> {
        self.perform(context, Operation::SetUserPassword, Some(user), async {
            let users = self.users(context)?;
            let user = named(&users, user).await?;
            let password = users.set_password(&user.user_id, password).await?;
            let touched = Some(user.user_id.to_string());
            Ok(Done { touched, ..Done::new(UserWithPassword { user, password }) })
        })
        .await
    }

    /// Locks a user out (D2).
    pub async fn disable_user(&self, context: &Context, user: &str) -> Result<User, EngineError> {
        self.perform(context, Operation::DisableUser, Some(user), async {
            let users = self.users(context)?;
            let user_id = named(&users, user).await?.user_id;
            refuse_oneself(context, &user_id, "disable")?;
            users.disable(&user_id).await?;
            Ok(done(users.get(&user_id).await?))
        })
        .await
    }

    /// Lets a user in again whose scopes the caller holds (D1).
    pub async fn enable_user(&self, context: &Context, user: &str) -> Result<User, EngineError> {
        self.perform(context, Operation::EnableUser, Some(user), async {
            let users = self.users(context)?;
            let user_id = named(&users, user).await?.user_id;
            users.enable(&user_id).await?;
            Ok(done(users.get(&user_id).await?))
        })
        .await
    }

    /// Deletes a user (D2).
    pub async fn delete_user(&self, context: &Context, user: &str) -> Result<(), EngineError> {
        self.perform(context, Operation::DeleteUser, Some(user), async {
            let users = self.users(context)?;
            let user_id = named(&users, user).await?.user_id;
            refuse_oneself(context, &user_id, "delete")?;
            users.delete(&user_id).await?;
            Ok(Done { touched: Some(user_id.to_string()), ..Done::new(()) })
        })
        .await
    }

    fn users(&self, context: &Context) -> Result<Users, EngineError> {
        Ok(self.token_service()?.users().limited_to(&context.principal.scopes))
    }
}

/// The audit knows users by their ids, whatever they were called by.
fn done(user: User) -> Done<User> {
    Done { touched: Some(user.user_id.to_string()), ..Done::new(user) }
}

/// The user of that id or username: no username holds the colon that every id has.
async fn named(users: &Users, text: &str) -> Result<User, UserError> {
    if let Ok(user_id) = text.parse::<UserId>() {
        return users.get(&user_id).await;
    }
    let shown = || text.chars().take(MAX_SHOWN_CHARACTERS).collect();
    users.find_by_username(text).await?.ok_or_else(|| UserError::NotFound { given: shown() })
}

fn refuse_oneself(context: &Context, user_id: &UserId, verb: &'static str) -> Result<(), UserError> {
    if context.principal.subject == user_id.as_str() { Err(UserError::Oneself { verb }) } else { Ok(()) }
}
