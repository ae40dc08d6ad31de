'use strict';
// A stock master: serves ROOT/<spider_id> the way Crawlab's does, by other code than ours.
// Entries come in no particular order, modes are Go's, hashes MD5; there is no final marker after a scan; a scan is
// reused for a minute; errors are chunks. Usage: stock_master.js ROOT [--token KEY] [--scan-ttl SECONDS] [--port PORT]
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { grpc, SyncService, CHUNK_ENTRIES, CHUNK_BYTES } = require('./service');

const GO_DIR = 2 ** 31, GO_SETUID = 2 ** 23, GO_SETGID = 2 ** 22, GO_STICKY = 2 ** 20;

const args = process.argv.slice(2);
const root = path.resolve(args.shift());
const option = (name, fallback) => args.includes(name) ? args[args.indexOf(name) + 1] : fallback;
const token = option('--token', null);
const scanTtlMs = 1000 * Number(option('--scan-ttl', '60'));

const count = { scans: 0, scan_requests: 0, downloads: 0 };
const scans = new Map(); // folder -> { at, entries }

function goMode(stat) {
    let mode = stat.mode & 0o777;
    if (stat.isDirectory()) mode += GO_DIR;
    if (stat.mode & 0o4000) mode += GO_SETUID;
    if (stat.mode & 0o2000) mode += GO_SETGID;
    if (stat.mode & 0o1000) mode += GO_STICKY;
    return mode;
}

function describe(folder, relative) {
    const full = path.join(folder, relative);
    const stat = fs.statSync(full); // follows links, as filepath.Walk's users do
    const name = path.basename(full);
    return {
        name, path: relative || '.', full_path: full, extension: path.extname(name), is_dir: stat.isDirectory(),
        file_size: stat.size, mod_time: Math.floor(stat.mtimeMs / 1000), mode: goMode(stat),
        hash: stat.isDirectory() ? '' : crypto.createHash('md5').update(fs.readFileSync(full)).digest('hex'),
    };
}

function walk(folder, relative, entries) {
    entries.push(describe(folder, relative));
    for (const child of fs.readdirSync(path.join(folder, relative), { withFileTypes: true })) {
        const below = path.join(relative, child.name);
        if (child.isDirectory()) walk(folder, below, entries);
        else if (child.isFile()) entries.push(describe(folder, below));
    }
    return entries;
}

// A fixed shuffle: children often come before their folders, as from a map in Go.
function unordered(entries) {
    const key = (e) => crypto.createHash('md5').update(e.path).digest('hex');
    return entries.map((e) => [key(e), e]).sort((a, b) => (a[0] < b[0] ? -1 : 1)).map((pair) => pair[1]);
}

function scan(folder) {
    const known = scans.get(folder);
    if (known && Date.now() - known.at < scanTtlMs) return known.entries;
    count.scans++;
    const entries = unordered(walk(folder, '', []));
    scans.set(folder, { at: Date.now(), entries });
    return entries;
}

function authorized(call) {
    if (!token || call.metadata.get('authorization')[0] === token) return true;
    call.emit('error', { code: grpc.status.UNAUTHENTICATED, details: 'invalid authorization' });
    return false;
}

function answerScan(call, request) {
    count.scan_requests++;
    let entries;
    try {
        entries = scan(path.join(root, request.spider_id, request.path));
    } catch (error) {
        call.write({ error: String(error.message), is_complete: true });
        return;
    }
    for (let i = 0; i < entries.length; i += CHUNK_ENTRIES) {
        call.write({ files: entries.slice(i, i + CHUNK_ENTRIES), total_files: entries.length });
    }
}

function streamFileScan(call) {
    if (!authorized(call)) return;
    answerScan(call, call.request);
    call.end();
}

function streamFileDownload(call) {
    if (!authorized(call)) return;
    count.downloads++;
    const { spider_id: spider, path: relative } = call.request;
    let data;
    try {
        data = fs.readFileSync(path.join(root, spider, relative));
    } catch (error) {
        call.write({ error: String(error.message), is_complete: true });
        call.end();
        return;
    }
    for (let i = 0; i < data.length; i += CHUNK_BYTES) {
        call.write({ data: data.subarray(i, i + CHUNK_BYTES), total_bytes: data.length });
    }
    call.write({ is_complete: true, total_bytes: data.length });
    call.end();
}

function syncFiles(call) {
    if (!authorized(call)) return;
    call.on('data', (request) => answerScan(call, request));
    call.on('end', () => call.end());
}

const server = new grpc.Server();
server.addService(SyncService.service,
    { StreamFileScan: streamFileScan, StreamFileDownload: streamFileDownload, SyncFiles: syncFiles });
server.bindAsync(`127.0.0.1:${option('--port', '0')}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(`listening on 127.0.0.1:${port}`);
});
process.on('SIGTERM', () => {
    console.log(`counts ${JSON.stringify(count)}`);
    process.exit(0);
});
