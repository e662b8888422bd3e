# shellcheck shell=sh
set -eu
# The token goes from file to file: an argument would show it in the process list.
VAULT_TOKEN=$(vault write -field=token auth/kubernetes/login role=vault-snapshot jwt=@/var/run/secrets/vault/token)
export VAULT_TOKEN
name=/snapshots/vault-$(date -u +%Y%m%dT%H%M%SZ).snap
vault operator raft snapshot save "$name.part"
gzip -t < "$name.part"
mv "$name.part" "$name"
vault token revoke -self
# The names are this script's own; busybox has no find that sorts.
# shellcheck disable=SC2012
ls -1 /snapshots/*.snap | sort -r | tail -n "+$((KEEP + 1))" | while read -r old; do rm -f "$old"; done
echo "saved $name, kept the newest $KEEP"
