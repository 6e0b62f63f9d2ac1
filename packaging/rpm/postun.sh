# SPDX-License-Identifier: GPL-2.0-or-later
# After removal ($1 = 0) and, on an upgrade, after the old files went ($1 = 1).
# Runs with /bin/sh.
if [ "$1" -eq 0 ]; then
    journalctl --update-catalog >/dev/null 2>&1 || :
    rm -rf /var/lib/hubwarden
    # Directories that the package made and no file list names. One that still
    # holds something, such as an admin's config.toml.rpmsave, stays.
    rmdir /etc/hubwarden \
        /usr/share/doc/hubwarden /usr/share/licenses/hubwarden 2>/dev/null || :
    if [ -d /run/systemd/system ]; then
        rm -rf /run/hubwarden
        systemctl daemon-reload || :
        systemctl reset-failed hubwarden.service hubwarden-table.socket hubwarden-table.service >/dev/null 2>&1 || :
        systemctl reload dbus.service >/dev/null 2>&1 || :
    fi
elif [ -d /run/systemd/system ] && [ ! -e /usr/lib/systemd/system/hubwarden-table.socket ]; then
    # Back to a version that does not know how to change rules that belong to a socket: they go
    # with it, and the daemon, which tries at each tick, loads its own.
    systemctl stop hubwarden-table.socket hubwarden-table.service >/dev/null 2>&1 || :
fi
exit 0
