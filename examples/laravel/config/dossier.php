<?php

return [
    'url' => env('DOSSIER_URL'),

    // A comma list while the token is being changed: the first is sent, all are accepted.
    'tokens' => array_filter(array_map('trim', explode(',', (string) env('DOSSIER_TOKEN')))),

    'secrets' => array_values(array_filter([env('DOSSIER_SECRET'), env('DOSSIER_SECRET_PREVIOUS')])),

    // The name under which Dossier's operator registered our URL in SCAN_CALLBACKS.
    'callback' => env('DOSSIER_CALLBACK', 'laravel'),
];
