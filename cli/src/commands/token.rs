//! `edgesmith token`.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_common::TokenRole;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, print, print_text};
use edgesmith_proto::v1;
use serde::Serialize;
use serde_json::json;

use crate::output::json;

/// Arguments: what to do with tokens.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Make a token and print it; it cannot be shown again
    New {
        /// What its holder may do: work; look at studies; look at and change studies; everything
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(
            TokenRole::ALL.map(TokenRole::name)))]
        role: String,
        /// Name in the list of tokens [default: the role with a number]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List tokens by name, without their secrets
    List {
        #[command(flatten)]
        connection: Connection,
        /// How to print
        #[arg(long, value_enum, default_value = "table")]
        format: ListFormat,
    },
    /// Revoke a token: later calls with it are refused
    Revoke {
        /// Name of the token
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Makes, lists or revokes tokens.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::New { role, name, connection } => {
            let role: TokenRole = role.parse()?;
            let request = v1::CreateTokenRequest {
                role: role_message(role).into(),
                name: name.unwrap_or_default(),
            };
            let coordinator = Coordinator::connect(&connection).await?;
            let answer = coordinator.tokens().create_token(request).await;
            let v1::CreateTokenResponse { token, name, required } =
                answer.map_err(|status| coordinator.refused(status))?.into_inner();
            print_text(&format!("{token}\n"))?;
            eprintln!("made token {name} of role {role}; it is not shown again");
            if !required {
                eprintln!(
                    "tokens are required after the next start of `edgesmith coordinator` on this \
                     directory"
                );
            }
            Ok(())
        }
        Action::List { connection, format } => {
            let coordinator = Coordinator::connect(&connection).await?;
            let answer = coordinator.tokens().list_tokens(v1::ListTokensRequest {}).await;
            print(
                &Tokens(answer.map_err(|status| coordinator.refused(status))?.into_inner().tokens),
                format,
            )
        }
        Action::Revoke { name, connection } => {
            let coordinator = Coordinator::connect(&connection).await?;
            let request = v1::RevokeTokenRequest { name: name.clone() };
            coordinator
                .tokens()
                .revoke_token(request)
                .await
                .map_err(|status| coordinator.refused(status))?;
            print_text(&format!("revoked token {name}\n"))?;
            // Fails if the caller's own token was revoked.
            let left = coordinator.tokens().list_tokens(v1::ListTokensRequest {}).await;
            if left.is_ok_and(|answer| answer.into_inner().tokens.is_empty()) {
                eprintln!(
                    "no token is left: a coordinator that listens on this machine only will ask \
                     nobody for one after its next start"
                );
            }
            Ok(())
        }
    }
}

fn role_message(role: TokenRole) -> v1::TokenRole {
    match role {
        TokenRole::Worker => v1::TokenRole::Worker,
        TokenRole::Viewer => v1::TokenRole::Viewer,
        TokenRole::User => v1::TokenRole::User,
        TokenRole::Admin => v1::TokenRole::Admin,
    }
}

fn role_name(role: v1::TokenRole) -> &'static str {
    match role {
        v1::TokenRole::Unspecified => "unknown",
        v1::TokenRole::Worker => TokenRole::Worker.name(),
        v1::TokenRole::Viewer => TokenRole::Viewer.name(),
        v1::TokenRole::User => TokenRole::User.name(),
        v1::TokenRole::Admin => TokenRole::Admin.name(),
    }
}

struct Tokens(Vec<v1::TokenStatus>);

impl Output for Tokens {
    fn table(&self) -> String {
        let columns = [("token", Align::Left), ("role", Align::Left)];
        let row = |t: &v1::TokenStatus| vec![t.name.clone(), role_name(t.role()).to_owned()];
        table::render(&columns, &self.0.iter().map(row).collect::<Vec<_>>())
    }

    fn json(&self) -> impl Serialize {
        let token = |t: &v1::TokenStatus| {
            json!({
                "token": t.name, "role": role_name(t.role()), "created_at_ms": t.created_at_ms,
            })
        };
        let all: Vec<_> = self.0.iter().map(token).collect();
        json!({ "version": json::VERSION, "tokens": all })
    }
}
