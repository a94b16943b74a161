// A cluster client of Node.js at work: counts keys in all slots up until its input ends, and reads them back.
//
//   node cluster_client.js LIBRARY PORT      LIBRARY: "ioredis" or "redis" (node-redis)
//
// Prints "round N" after each round over all keys, and in the end one line of JSON: what it saw that nobody should see.
'use strict';

const assert = require('assert');
const [library, port] = process.argv.slice(2);
const KEYS = Array.from({ length: 300 }, (_, index) => `${library}:${index}`);
const address = { host: '127.0.0.1', port: Number(port) };
const faults = [];

// The same few commands with both: incr(key), get(key), transaction(key) -> [value, length of a list of one], exchange().
async function openIoredis() {
  const { Cluster } = require('ioredis');
  const client = new Cluster([address], { redisOptions: { connectTimeout: 60000 }, slotsRefreshTimeout: 60000 });
  const reader = new Cluster([address], { scaleReads: 'slave', slotsRefreshTimeout: 60000 });
  const subscriber = new Cluster([address], { slotsRefreshTimeout: 60000 });
  for (const one of [client, reader, subscriber]) one.on('error', (error) => faults.push(`client: ${error.message}`));
  return {
    incr: (key) => client.incr(key),
    get: (key) => client.get(key),
    read: (key) => reader.get(key),
    transaction: async (key) => (await client.multi().incr(key).get(key).exec()).map(([, value]) => value),
    exchange: async () => {
      const message = new Promise((resolve) => subscriber.on('message', (channel, text) => resolve(text)));
      await subscriber.subscribe('news');
      await client.publish('news', 'hello');
      return message;
    },
    close: () => [client, reader, subscriber].forEach((one) => one.disconnect()),
  };
}

async function openNodeRedis() {
  const { createCluster } = require('redis');
  const open = async (options) => {
    const client = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }], ...options });
    client.on('error', (error) => faults.push(`client: ${error.message}`));
    await client.connect();
    return client;
  };
  const client = await open({});
  const reader = await open({ useReplicas: true });
  return {
    incr: (key) => client.incr(key),
    get: (key) => client.get(key),
    // A connection that was made to a primary is not READONLY when that has become a replica.
    read: (key) => reader.get(key).catch((error) => assert(/^Error: MOVED/.test(String(error)), String(error))),
    // It does not follow a redirection in a transaction by itself; of one that is discarded nothing has happened.
    transaction: async (key) => {
      for (;;) {
        try {
          return await client.multi().incr(key).get(key).exec();
        } catch (error) {
          if (!/EXECABORT|MOVED/.test(String(error))) throw error;
          await client.get(key);
        }
      }
    },
    exchange: () =>
      new Promise((resolve, reject) => {
        client
          .sSubscribe('news', (text) => resolve(text))
          .then(() => client.sPublish('news', 'hello'))
          .catch(reject);
      }),
    close: () => Promise.all([client.disconnect(), reader.disconnect()]),
  };
}

async function main() {
  let ending = false;
  process.stdin.on('end', () => (ending = true)).resume();
  const client = await (library === 'ioredis' ? openIoredis() : openNodeRedis());
  const counts = Object.fromEntries(KEYS.map((key) => [key, 0]));
  const message = await client.exchange();
  if (message !== 'hello') faults.push(`message: ${message}`);
  const step = async (key, index, round) => {
    if ((index + round) % 5 === 0) {
      const [value, again] = await client.transaction(key);
      if (value !== counts[key] + 1 || again !== String(value)) faults.push(`${key}: ${value}, ${again} after ${counts[key]}`);
    } else {
      const value = await client.incr(key);
      if (value !== counts[key] + 1) faults.push(`${key}: ${value} after ${counts[key]}`);
    }
    counts[key]++;
    await client.read(key);
  };
  for (let round = 1; !ending && faults.length === 0; round++) {
    // One at a time for each key, 20 keys at once.
    for (let first = 0; first < KEYS.length; first += 20) {
      await Promise.all(KEYS.slice(first, first + 20).map((key, index) => step(key, first + index, round)));
    }
    console.log(`round ${round}`);
  }
  for (const key of KEYS) {
    const value = await client.get(key);
    if (value !== String(counts[key])) faults.push(`${key} is ${value} instead of ${counts[key]}`);
  }
  await client.close();
  console.log(JSON.stringify(faults));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.log(JSON.stringify([...faults, String(error)]));
    process.exit(1);
  }
);
