use super::*;

/// Returns the command that a command line sends to a running process, or the exit code.
fn sent(line: &str) -> Result<Control, u8> {
    let words = ["firstack"].into_iter().chain(line.split_whitespace());
    match Cli::try_parse_from(words).map_err(|error| error.exit_code() as u8)?.command {
        Command::Gate { gate, name, wait, .. } => {
            gate.command(name, wait.is_some()).map_err(|(code, _)| code)
        }
        Command::Reload { dry_run, .. } => Ok(Control::Reload { dry_run }),
        command => panic!("{command:?}"),
    }
}

#[test]
fn gate_commands_take_an_optional_name() {
    let name = || Some("shop/web1".parse().unwrap());
    assert_eq!(sent("gate drain -c f"), Ok(Control::Drain { name: None }));
    assert_eq!(sent("gate drain shop/web1 -c f"), Ok(Control::Drain { name: name() }));
    assert_eq!(sent("gate --socket s undrain shop/web1"), Ok(Control::Undrain { name: name() }));
    assert_eq!(sent("gate drain shop/web1 --wait 30m -c f"), Ok(Control::Drain { name: name() }));
    assert_eq!(sent("gate drain -c f --wait"), Ok(Control::Drain { name: None }));
    assert_eq!(sent("gate undrain -c f --wait"), Err(MISCONFIGURED));
    assert_eq!(sent("gate drain -c f --wait soon"), Err(MISCONFIGURED));
    assert_eq!(sent("gate busy --socket s"), Ok(Control::Busy));
    assert_eq!(sent("gate unbusy --socket s"), Ok(Control::Unbusy));
    assert_eq!(sent("reload --config f"), Ok(Control::Reload { dry_run: false }));
    assert_eq!(sent("reload --dry-run --socket s"), Ok(Control::Reload { dry_run: true }));
    let wrong = ["busy web1 -c f", "unbusy web1 -c f", "drain", "drain a b -c f", "stop -c f"];
    for line in wrong {
        assert_eq!(sent(&format!("gate {line}")), Err(MISCONFIGURED), "{line}");
    }
    assert_eq!(sent("reload web1 -c f"), Err(MISCONFIGURED));
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
