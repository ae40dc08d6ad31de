'use strict';
// The stock service definition, and the channel's or server's credentials, for both peers.
const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const definition = protoLoader.loadSync(path.join(__dirname, '..', 'stock.proto'),
    { keepCase: true, longs: Number, defaults: true });

exports.grpc = grpc;
exports.SyncService = grpc.loadPackageDefinition(definition).grpc.SyncService;
exports.CHUNK_ENTRIES = 100;
exports.CHUNK_BYTES = 64 * 1024;
