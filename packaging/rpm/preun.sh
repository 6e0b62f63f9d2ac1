# SPDX-License-Identifier: GPL-2.0-or-later
# Before removal ($1 = 0) and, on an upgrade, before the old files go ($1 = 1).
# Runs with /bin/sh. Only a removal lifts anything.
if [ "$1" -eq 0 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl stop hubwarden.service >/dev/null 2>&1 || :
        # The daemon is gone, so this lifts every limit and rule by itself.
        if ! hubwarden off >/dev/null; then
            echo "hubwarden: not everything could be lifted; what is left goes with a reboot, or by" >&2
            echo "hubwarden:   nft delete table inet hubwarden" >&2
            echo "hubwarden:   nft delete table netdev hubwarden; ip link delete hwshapeN" >&2
            echo "hubwarden:   systemctl set-property --runtime UNIT CPUQuota= CPUWeight=" >&2
        fi
        # What the rules belonged to, on kernels before 6.9: with it any rest of them is gone.
        systemctl stop hubwarden-table.socket hubwarden-table.service >/dev/null 2>&1 || :
        # A server that runs in a slice where hubwarden had it started keeps a drop-in that says so, or it
        # would lose its memory limit at the next daemon-reload. It goes with the server.
        for file in /run/systemd/system/*.service.d/10-hubwarden.conf; do
            grep -qs '^# Made by hubwarden' "$file" || continue
            directory=${file%/*}
            server=$(basename "$directory" .d)
            path=$(printf '%s' "$directory" | sed 's/\\/\\\\/g; s/%/%%/g')
            systemd-run --quiet --collect --unit="hubwarden-left-$server" --property=Type=oneshot \
                --property=RemainAfterExit=yes --property=BindsTo="$server" --property=After="$server" \
                --property="ExecStop=/bin/rm -f '$path/10-hubwarden.conf'" \
                --property="ExecStop=-/bin/rmdir '$path'" /bin/true || :
        done
    fi
    systemctl --no-reload disable hubwarden.service >/dev/null 2>&1 || :
fi
exit 0
