# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of hubwarden(8), written by `make generated`.
# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_hubwarden_global_optspecs
    string join \n h/help V/version
end

function __fish_hubwarden_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_hubwarden_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_hubwarden_using_subcommand
    set -l cmd (__fish_hubwarden_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c hubwarden -n "__fish_hubwarden_needs_command" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -s V -l version -d 'Print version'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "run" -d 'Supervise this node (systemd starts this; see systemctl status hubwarden)'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "status" -d 'Show servers with their user, CPU, credits, stage and egress class'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "flows" -d 'Show whom servers speak with right now, and how much was said'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "top" -d 'Show servers and what runs in them, on a screen that refreshes itself'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "explain" -d 'Say how a user\'s servers stand and why: verdicts, evidence of mining, what runs in them'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "check" -d 'Check what this node gives hubwarden, and where users are out of its reach'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "check-config" -d 'Check a configuration file and name every problem with line and column'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "grant" -d 'Give a user an exception for a while'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "grants" -d 'List the exceptions that hold'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "revoke" -d 'Take a user\'s exception back'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "lists" -d 'List the deny lists, or import and remove them'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "reload" -d 'Have the running daemon read its configuration again'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "replay" -d 'Say whom another policy would have throttled, on recorded or made-up days'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "off" -d 'Lift every verdict and rule at once and put back what stood there, until `on`'
complete -c hubwarden -n "__fish_hubwarden_needs_command" -f -a "on" -d 'Resume after `off`'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand run" -l config -d 'Configuration file' -r -F
complete -c hubwarden -n "__fish_hubwarden_using_subcommand run" -l state -d 'Directory for what must survive a restart' -r -f -a "(__fish_complete_directories)"
complete -c hubwarden -n "__fish_hubwarden_using_subcommand run" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand status" -l json -d 'Print JSON for programs'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand status" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand flows" -l json -d 'Print JSON for programs'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand flows" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand top" -l every -d 'Time between two readings' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand top" -l sort -d 'What comes first' -r -f -a "cpu\t'Who uses most'
credits\t'Whose credits are nearest to their end'
user\t'By name'"
complete -c hubwarden -n "__fish_hubwarden_using_subcommand top" -l once -d 'Print once and end, as is done where the output is no terminal'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand explain" -l json -d 'Print JSON for programs'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand explain" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand check" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand check-config" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grant" -l cpu -d 'The limit while there are credits, in cores' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grant" -l baseline -d 'The rate at which credits refill, in cores' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grant" -l credits -d 'Credits: "unlimited", or such as "10 core-hours"' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grant" -l class -d 'Egress class, one of the configuration\'s' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grant" -l for -d 'How long it holds, such as "8h" or "3d"' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grant" -l reason -d 'Why; the journal keeps it' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grant" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grants" -l json -d 'Print JSON for programs'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand grants" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand revoke" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and not __fish_seen_subcommand_from import remove" -l state -d 'Directory of the daemon\'s state' -r -f -a "(__fish_complete_directories)"
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and not __fish_seen_subcommand_from import remove" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and not __fish_seen_subcommand_from import remove" -f -a "import" -d 'Take a feed in, in place of any list of that name'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and not __fish_seen_subcommand_from import remove" -f -a "remove" -d 'Forget an imported list'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and __fish_seen_subcommand_from import" -l name -d 'What the list is called in refusals: a-z, 0-9 and \'-\'' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and __fish_seen_subcommand_from import" -l state -d 'Directory of the daemon\'s state' -r -f -a "(__fish_complete_directories)"
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and __fish_seen_subcommand_from remove" -l state -d 'Directory of the daemon\'s state' -r -f -a "(__fish_complete_directories)"
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand reload" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l config -d 'The configuration to try; without, the one installed, or the defaults' -r -F
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l member -d 'Who is in which hub group, which traces do not say; may be repeated' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l cores -d 'The node\'s cores: with throttle_when = "contended" others wait only while the recorded servers together use nearly all of them' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l users -d 'Made-up users' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l days -d 'Made-up days; the first is a Monday' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l seed -d 'The same seed gives the same days' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l spinners -d 'Made-up users who let something spin for hours, in per cent' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l most -d 'Throttled sessions to list, the longest first' -r -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l generate -d 'Replay made-up days instead, with sessions like those on Binder and some spinners'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -l json -d 'Print JSON for programs, with all throttled sessions'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand off" -l state -d 'Directory of the daemon\'s state, for when it is not running' -r -f -a "(__fish_complete_directories)"
complete -c hubwarden -n "__fish_hubwarden_using_subcommand off" -s h -l help -d 'Print help'
complete -c hubwarden -n "__fish_hubwarden_using_subcommand on" -l state -d 'Directory of the daemon\'s state, for when it is not running' -r -f -a "(__fish_complete_directories)"
complete -c hubwarden -n "__fish_hubwarden_using_subcommand on" -s h -l help -d 'Print help'
complete -c hubwarden -f
complete -c hubwarden -n "__fish_hubwarden_using_subcommand check" -F
complete -c hubwarden -n "__fish_hubwarden_using_subcommand check-config" -F
complete -c hubwarden -n "__fish_hubwarden_using_subcommand lists; and __fish_seen_subcommand_from import" -F
complete -c hubwarden -n "__fish_hubwarden_using_subcommand replay" -F
