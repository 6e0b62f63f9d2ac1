# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of hubwarden(8) for fish.
complete -c hubwarden -f
complete -c hubwarden -n __fish_use_subcommand -a run -d 'run the daemon'
complete -c hubwarden -n __fish_use_subcommand -a status -d 'list servers with CPU, credits, rung and class'
complete -c hubwarden -n __fish_use_subcommand -a check-config -d 'name every mistake in a configuration file'
complete -c hubwarden -n __fish_use_subcommand -a check -d 'check what this node gives hubwarden'
complete -c hubwarden -n __fish_use_subcommand -a grant -d 'give a user an exception for a while'
complete -c hubwarden -n __fish_use_subcommand -a grants -d 'list the exceptions that hold'
complete -c hubwarden -n __fish_use_subcommand -a revoke -d 'take an exception back'
complete -c hubwarden -n __fish_use_subcommand -a off -d 'lift every limit and rule until on'
complete -c hubwarden -n __fish_use_subcommand -a on -d 'resume after off'
complete -c hubwarden -n __fish_use_subcommand -a reload -d 'make the daemon read its configuration again'
complete -c hubwarden -n __fish_use_subcommand -a replay -d 'say whom another policy would have throttled'
complete -c hubwarden -n __fish_use_subcommand -a lists -d 'deny lists: show, import, remove'
complete -c hubwarden -n '__fish_seen_subcommand_from lists' -a 'import remove' -F
complete -c hubwarden -n '__fish_seen_subcommand_from run' -l config -r -F -d 'configuration file'
complete -c hubwarden -n '__fish_seen_subcommand_from run off on' -l state -r -F -d 'directory of the state'
complete -c hubwarden -n __fish_use_subcommand -a flows -d 'show whom servers speak with right now'
complete -c hubwarden -n '__fish_seen_subcommand_from status flows' -l json -d 'print for programs'
complete -c hubwarden -n '__fish_seen_subcommand_from check-config' -F
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -F
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l config -r -F -d 'configuration to try'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l member -x -d 'who is in a group: GROUP=USER'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l cores -x -d 'cores of the node'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l generate -d 'replay made-up days'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l users -x -d 'made-up users'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l days -x -d 'made-up days'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l seed -x -d 'the same gives the same days'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l spinners -x -d 'users who let something spin, in per cent'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l most -x -d 'throttled sessions to list'
complete -c hubwarden -n '__fish_seen_subcommand_from replay' -l json -d 'print for programs'
