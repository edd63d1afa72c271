//! Compiling metric queries.
//!
//! C1 only what the caller's clearance shows can be named or is suggested. C2 who may not read metadata learns nothing
//! but the SQL over datasets that it may run, and no reason of a refusal.

use super::{Context, Done, Engine, EngineError};
use crate::auth::Operation;
use crate::semantic::compile::{CompileRequest, Compiled};

impl Engine {
    /// SQL for a metric query over the published datasets; it passes the guard for whoever may run them.
    pub async fn compile(
        &self,
        context: &Context,
        request: &CompileRequest,
    ) -> Result<Compiled, EngineError> {
        self.perform(context, Operation::Compile, None, async {
            let (view, asked) = (self.view(context), request.clone());
            let work = move || view.compiler().compile(&asked);
            let outcome = tokio::task::spawn_blocking(work).await?;
            let may = |operation: Operation, target: Option<&str>| {
                operation.authorize(&context.principal, target).is_ok()
            };
            if may(Operation::ListDatasets, None) {
                return Ok(done(outcome?));
            }
            match outcome {
                Ok(compiled) if compiled.datasets.iter().all(|name| may(Operation::SqlRun, Some(name))) => {
                    Ok(done(compiled))
                }
                _ => Err(EngineError::InvalidInput(
                    "this does not compile over the datasets that you may run; with the scope semantic:read the reason is told"
                        .to_owned(),
                )),
            }
        })
        .await
    }
}

fn done(compiled: Compiled) -> Done<Compiled> {
    let touched = Some(compiled.datasets.join(","));
    let mut done = Done::new(compiled);
    done.touched = touched;
    done
}
