//! Completions, and the options in hubwarden(8), are those of the command line's definition. They
//! are checked in, because the packages take files from the tree; `make generated` writes them anew.

use clap::{Command, CommandFactory, ValueHint};
use clap_complete::{Generator, Shell, generate};
use clap_mangen::Man;
use hubwarden::cli::Arguments;
use std::collections::BTreeMap;
use std::path::Path;

/// Set by `make generated`: write what differs.
const WRITE: &str = "HUBWARDEN_WRITE_GENERATED";

const HEAD: &str = "\
# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of hubwarden(8), written by `make generated`.
";

/// The command line without its hidden verbs, which clap_complete would show.
fn shown() -> Command {
    let all = Arguments::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new("hubwarden")
        .version("")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .subcommands(verbs.cloned().map(no_files))
}

/// A value that is not said to be a file is none: nothing is offered for it.
fn no_files(command: Command) -> Command {
    let hinted = command.mut_args(|argument| {
        let unknown = argument.get_value_hint() == ValueHint::Unknown;
        let free = argument.get_possible_values().is_empty();
        match unknown && free && argument.get_action().takes_values() {
            true => argument.value_hint(ValueHint::Other),
            false => argument,
        }
    });
    hinted.mut_subcommands(no_files)
}

/// Each command with the words that lead to it, in the order of `--help`.
fn each<'a>(command: &'a Command, words: &str, visit: &mut impl FnMut(&str, &'a Command)) {
    visit(words, command);
    for below in command.get_subcommands() {
        let words = format!("{words} {}", below.get_name());
        each(below, words.trim_start(), visit);
    }
}

/// Commands that take files besides those of options.
fn with_files() -> Vec<String> {
    let mut found = Vec::new();
    each(&shown(), "", &mut |words, command| {
        let mut positionals = command.get_positionals();
        if positionals.any(|argument| argument.get_value_hint() == ValueHint::FilePath) {
            found.push(words.to_owned());
        }
    });
    assert!(!found.is_empty());
    found
}

fn completion(shell: impl Generator) -> String {
    let mut text = Vec::new();
    generate(shell, &mut shown(), "hubwarden", &mut text);
    let text = String::from_utf8(text).unwrap();
    // zsh wants its own line first.
    let zsh = "#compdef hubwarden\n";
    match text.strip_prefix(zsh) {
        Some(rest) => format!("{zsh}{HEAD}{rest}"),
        None => format!("{HEAD}{text}"),
    }
}

/// clap_complete offers only options where no letter of a file's name is typed, and files for
/// every other word.
fn bash() -> String {
    let verbs: Vec<_> = with_files()
        .iter()
        .map(|verb| format!("'{verb} '*"))
        .collect();
    format!(
        r#"{}
# Files for words that are files, and for no others.
_hubwarden_or_files() {{
    _hubwarden "$@"
    [[ $2 == -* || $3 == --state ]] && return
    case "${{COMP_WORDS[*]:1}} " in
        {}) ;;
        *) return ;;
    esac
    local word
    for word in "${{COMPREPLY[@]}}"; do
        [[ $word == -* ]] || return
    done
    COMPREPLY=()
    compopt -o default
}}
complete -F _hubwarden_or_files hubwarden
"#,
        completion(Shell::Bash),
        verbs.join(" | ")
    )
}

/// clap_complete says nothing of words that are no options, and fish then offers files.
fn fish() -> String {
    let mut text = completion(Shell::Fish) + "complete -c hubwarden -f\n";
    for verb in with_files() {
        let condition = verb.replacen(' ', "; and __fish_seen_subcommand_from ", 1);
        text += &format!(
            "complete -c hubwarden -n \"__fish_hubwarden_using_subcommand {condition}\" -F\n"
        );
    }
    text
}

/// What clap_mangen writes in man(7), in the mdoc(7) of the page.
fn mdoc(section: &[u8]) -> String {
    let mut text = String::new();
    let section = std::str::from_utf8(section)
        .unwrap()
        .replace(r"\*(Aq", r"\(aq");
    let mut lines = section.lines().skip_while(|line| !line.starts_with(".SH"));
    lines.next();
    while let Some(line) = lines.next() {
        match line {
            ".TP" => text += &format!(".It \"{}\"\n", lines.next().unwrap().replace('"', r"\(dq")),
            ".br" => text += ".br\n",
            macros if macros.starts_with('.') => panic!("mdoc for {macros}"),
            line => text += &format!("{}\n", line.trim_end()),
        }
    }
    text
}

/// The page's generated parts, by name.
fn parts() -> BTreeMap<String, String> {
    let mut root = shown();
    root.build();
    let mut synopsis = Vec::new();
    let mut parts = BTreeMap::new();
    each(&root, "", &mut |words, command| {
        let is_root = words.is_empty();
        let usage = command.clone().render_usage().to_string();
        synopsis.push(usage.trim_start_matches("Usage:").to_owned());
        let command = command.clone().mut_args(|argument| {
            // --help stands once; what a command's parent takes stands there.
            let elsewhere =
                argument.get_id() == "help" || argument.is_global_set() && words.contains(' ');
            argument
                .hide_possible_values(true)
                .hide(elsewhere && !is_root)
        });
        let mut options = Vec::new();
        Man::new(command)
            .render_options_section(&mut options)
            .unwrap();
        let mut list = mdoc(&options);
        if !list.is_empty() {
            list = format!(".Bl -tag -width Ds\n{list}.El\n");
        }
        parts.insert(
            format!("options of {words}")
                .trim_end_matches(" of ")
                .to_owned(),
            list,
        );
    });
    let usage = Command::new("hubwarden").override_usage(synopsis.join("\n"));
    let mut text = Vec::new();
    Man::new(usage).render_synopsis_section(&mut text).unwrap();
    parts.insert("synopsis".to_owned(), mdoc(&text));
    parts
}

/// The page with its generated parts as they should be.
fn page(page: &str) -> String {
    let mut parts = parts();
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        if let Some(name) = line.strip_prefix(r#".\" generated: "#) {
            let part = parts.remove(name);
            text +=
                &part.unwrap_or_else(|| panic!("the page has `{name}`, the command line does not"));
            let end = lines.find(|line| *line == r#".\" end"#);
            text += &format!("{}\n", end.unwrap());
        }
    }
    assert_eq!(parts, BTreeMap::new(), "the page has no place for these");
    text
}

fn compare(file: &str, wanted: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(file);
    let stands = std::fs::read_to_string(&path).unwrap();
    let wanted = wanted(&stands);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else if stands != wanted {
        panic!("packaging/{file} is not what the command line says: run `make generated`");
    }
}

#[test]
fn completions_are_those_of_the_command_line() {
    compare("completions/hubwarden.bash", |_| bash());
    compare("completions/_hubwarden", |_| completion(Shell::Zsh));
    compare("completions/hubwarden.fish", |_| fish());
}

#[test]
fn the_manual_has_the_synopsis_and_options_of_the_command_line() {
    compare("man/hubwarden.8", page);
}

#[test]
fn no_completion_and_no_page_names_a_hidden_verb() {
    let all = Arguments::command();
    let hidden: Vec<_> = all
        .get_subcommands()
        .filter(|verb| verb.is_hide_set())
        .collect();
    assert!(!hidden.is_empty());
    let texts = [
        bash(),
        completion(Shell::Zsh),
        fish(),
        parts().into_values().collect(),
    ];
    for (verb, text) in hidden
        .iter()
        .flat_map(|verb| texts.iter().map(move |text| (verb, text)))
    {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        assert!(
            !words.any(|word| word == verb.get_name()),
            "{}",
            verb.get_name()
        );
    }
}
