<?php

use Illuminate\Database\Migrations\Migration;
use Illuminate\Database\Schema\Blueprint;
use Illuminate\Support\Facades\Schema;

return new class extends Migration
{
    public function up(): void
    {
        // Its id is the generation: a later scan of a folder has a higher one, and its word counts.
        Schema::create('scans', function (Blueprint $table) {
            $table->id();
            $table->uuid('correlation_id')->unique();
            $table->string('user_id');
            $table->json('sources'); // folder id => s3://…
            $table->string('status', 20)->default('PENDING')->index();
            $table->string('scan_id')->nullable();
            $table->string('outcome', 20)->nullable(); // what the completion marker says
            $table->unsignedInteger('total_batches')->nullable();
            $table->json('failed_folders')->nullable();
            $table->string('error')->nullable();
            $table->timestamps();
        });

        Schema::create('scan_batches', function (Blueprint $table) {
            $table->foreignId('scan_id')->constrained('scans')->cascadeOnDelete();
            $table->string('folder_id', 64);
            $table->unsignedInteger('batch');
            $table->primary(['scan_id', 'folder_id', 'batch']);
        });

        Schema::create('webhook_receipts', function (Blueprint $table) {
            $table->id();
            $table->string('webhook_id', 64)->unique();
            $table->longText('body');
            $table->timestamp('received_at');
            $table->timestamp('handled_at')->nullable()->index();
        });

        Schema::create('documents', function (Blueprint $table) {
            $table->id();
            $table->string('folder_id', 64);
            $table->string('path', 1024);
            $table->char('path_hash', 64); // a unique index over the path itself would be too long for MySQL
            $table->string('filename', 1024);
            $table->string('content_type');
            $table->unsignedBigInteger('size');
            $table->string('etag');
            $table->unsignedBigInteger('generation');
            $table->timestamp('missing_since')->nullable();
            $table->timestamps();
            $table->unique(['folder_id', 'path_hash']);
            $table->index(['folder_id', 'generation']);
        });
    }

    public function down(): void
    {
        foreach (['documents', 'webhook_receipts', 'scan_batches', 'scans'] as $table) {
            Schema::dropIfExists($table);
        }
    }
};
