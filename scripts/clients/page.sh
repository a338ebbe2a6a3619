#!/bin/sh
# page.sh DIGESTS KEY: a page that reads every object, checks its SHA-256, and writes what it found to KEY.
printf '<!doctype html><title>objects</title><script>\nconst objects = [\n'
awk '{ printf "[\"%s\",\"%s\"],\n", $2, $1 }' "$1"
printf '];\nconst key = "/%s";\n' "$2"
cat <<'PAGE'
async function check([name, expected]) {
    const reply = await fetch('/o/' + name, { cache: 'no-store' });
    if (reply.status !== 200) throw new Error(name + ': ' + reply.status);
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await reply.arrayBuffer()));
    const found = Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
    if (found !== expected) throw new Error(name + ': other bytes');
}
(async () => {
    const wrong = [];
    let right = 0;
    const left = objects.slice();
    const worker = async () => {
        for (let object; (object = left.pop());) {
            try { await check(object); right += 1; } catch (error) { wrong.push(String(error)); }
        }
    };
    await Promise.all(Array.from({ length: 12 }, worker));
    await fetch(key, { method: 'PUT', body: wrong.length ? wrong.join('\n') : 'right ' + right });
})();
</script>
PAGE
