# SPDX-License-Identifier: GPL-2.0-or-later
# After installation ($1 = 1) and upgrade ($1 = 2). Runs with /bin/sh.
# The group comes first: the bus leaves out what it is told of a group it does
# not find.
systemd-sysusers hubwarden.conf || :
journalctl --update-catalog >/dev/null 2>&1 || :
if [ "$1" -eq 1 ]; then
    systemctl --no-reload enable hubwarden.service >/dev/null 2>&1 || :
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    systemctl reload dbus.service >/dev/null 2>&1 || :
    if [ "$1" -eq 1 ]; then
        systemctl start hubwarden.service || :
    else
        # Rules and limits stand while the daemon is replaced.
        systemctl try-restart hubwarden.service || :
    fi
fi
exit 0
