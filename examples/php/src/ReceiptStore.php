<?php

declare(strict_types=1);

namespace Dossier;

use PDO;

/** Messages that were accepted: kept before they are acknowledged, so that no crash loses one. */
final class ReceiptStore
{
    public function __construct(private readonly PDO $db)
    {
        $db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
        $db->exec('CREATE TABLE IF NOT EXISTS webhook_receipts (
            webhook_id TEXT PRIMARY KEY, body TEXT NOT NULL, received_at INTEGER NOT NULL, handled_at INTEGER)');
    }

    public static function inFile(string $path): self
    {
        return new self(new PDO("sqlite:$path", options: [PDO::ATTR_TIMEOUT => 10]));
    }

    /** False: this message was here before. */
    public function keep(string $webhookId, string $body): bool
    {
        $insert = $this->db->prepare('INSERT INTO webhook_receipts (webhook_id, body, received_at) VALUES (?, ?, ?)
            ON CONFLICT (webhook_id) DO NOTHING');
        $insert->execute([$webhookId, $body, time()]);
        return $insert->rowCount() === 1;
    }

    /** @return array<string, string> id => body, oldest first, of what nobody has handled yet */
    public function unhandled(int $limit = 100): array
    {
        $select = $this->db->prepare('SELECT webhook_id, body FROM webhook_receipts WHERE handled_at IS NULL
            ORDER BY received_at, webhook_id LIMIT ?');
        $select->bindValue(1, $limit, PDO::PARAM_INT);
        $select->execute();
        return $select->fetchAll(PDO::FETCH_KEY_PAIR);
    }

    public function handled(string $webhookId): void
    {
        $this->db->prepare('UPDATE webhook_receipts SET handled_at = ? WHERE webhook_id = ?')->execute([time(), $webhookId]);
    }
}
