'use strict';
// A stock worker: copies a spider's folder from a master the way Crawlab's does, by other code than ours. Lists, compares
// MD5 with what is in FOLDER, downloads what differs, deletes what is gone.
// Usage: stock_worker.js HOST:PORT SPIDER FOLDER [--token KEY] [--sync-files] [--gzip] [--list-only]
// Prints one line of JSON: {listed, downloaded, deleted, bytes}.
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { grpc, SyncService } = require('./service');

const args = process.argv.slice(2);
const [address, spider, folder] = args;
const token = args.includes('--token') ? args[args.indexOf('--token') + 1] : null;

const options = args.includes('--gzip') ? { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip } : {};
const client = new SyncService(address, grpc.credentials.createInsecure(), options);
const metadata = new grpc.Metadata();
if (token) metadata.set('authorization', token);

const S_IFDIR = 2 ** 31;

function modeOf(file) {
    const bit = (go, unix) => (Math.floor(file.mode / go) % 2 ? unix : 0);
    return (file.mode & 0o777) | bit(2 ** 23, 0o4000) | bit(2 ** 22, 0o2000) | bit(2 ** 20, 0o1000);
}

function collect(stream, each) {
    return new Promise((resolve, reject) => {
        stream.on('data', (chunk) => {
            try {
                if (chunk.error) throw new Error(chunk.error);
                each(chunk);
            } catch (error) {
                stream.cancel();
                reject(error);
            }
        });
        stream.on('error', reject);
        stream.on('end', resolve);
    });
}

async function list() {
    const request = { spider_id: spider, path: '', node_key: 'stock-worker' };
    const files = [];
    let total = 0, complete = false;
    const viaSyncFiles = args.includes('--sync-files');
    const stream = viaSyncFiles ? client.SyncFiles(metadata) : client.StreamFileScan(request, metadata);
    if (viaSyncFiles) {
        stream.write(request);
        stream.end();
    }
    await collect(stream, (chunk) => {
        if (chunk.files.length > 100) throw new Error(`${chunk.files.length} entries in a chunk`);
        files.push(...chunk.files);
        total = chunk.total_files;
        complete = complete || chunk.is_complete;
    });
    if (total !== files.length) throw new Error(`${files.length} entries, but total_files ${total}`);
    return { files, complete };
}

function check(file) {
    const isDir = Math.floor(file.mode / S_IFDIR) % 2 === 1;
    if (isDir !== file.is_dir) throw new Error(`${file.path}: is_dir and mode disagree`);
    if (!path.isAbsolute(file.full_path)) throw new Error(`${file.path}: full_path is relative`);
    if (file.is_dir ? file.hash !== '' : !/^[0-9a-f]{32}$/.test(file.hash)) throw new Error(`${file.path}: hash`);
    if (file.path !== '.' && path.basename(file.path) !== file.name) throw new Error(`${file.path}: name`);
}

function localMd5(name) {
    try {
        return crypto.createHash('md5').update(fs.readFileSync(name)).digest('hex');
    } catch {
        return null;
    }
}

async function download(file, target) {
    const parts = [];
    let last = null;
    await collect(client.StreamFileDownload({ spider_id: spider, path: file.path }, metadata), (chunk) => {
        parts.push(chunk.data);
        last = chunk;
    });
    if (!last || !last.is_complete || last.data.length) throw new Error(`${file.path}: no empty last chunk`);
    const data = Buffer.concat(parts);
    if (crypto.createHash('md5').update(data).digest('hex') !== file.hash) throw new Error(`${file.path}: wrong bytes`);
    fs.writeFileSync(target, data);
    return data.length;
}

function removeOthers(listed, relative = '') {
    let removed = 0;
    for (const child of fs.readdirSync(path.join(folder, relative), { withFileTypes: true })) {
        const below = path.join(relative, child.name);
        if (!listed.has(below)) {
            fs.rmSync(path.join(folder, below), { recursive: true });
            removed++;
        } else if (child.isDirectory()) {
            removed += removeOthers(listed, below);
        }
    }
    return removed;
}

async function main() {
    fs.mkdirSync(folder, { recursive: true });
    const { files, complete } = await list();
    const result = { listed: files.length, complete, downloaded: 0, deleted: 0, bytes: 0 };
    files.forEach(check);
    if (args.includes('--list-only')) {
        console.log(JSON.stringify(result));
        client.close();
        return;
    }
    files.sort((a, b) => (a.path < b.path ? -1 : 1));
    for (const file of files.filter((f) => f.is_dir)) fs.mkdirSync(path.join(folder, file.path), { recursive: true });
    for (const file of files.filter((f) => !f.is_dir)) {
        const target = path.join(folder, file.path);
        if (localMd5(target) !== file.hash) {
            result.bytes += await download(file, target);
            result.downloaded++;
        }
    }
    result.deleted = removeOthers(new Set(files.map((f) => f.path)));
    for (const file of files.reverse()) {
        fs.chmodSync(path.join(folder, file.path), modeOf(file));
        fs.utimesSync(path.join(folder, file.path), file.mod_time, file.mod_time);
    }
    console.log(JSON.stringify(result));
    client.close();
}

main().catch((error) => {
    console.error(`stock_worker: ${error.code ?? ''} ${error.message}`);
    process.exit(1);
});
