<?php

use App\Http\Controllers\ScanCallbackController;
use App\Http\Middleware\VerifyDossier;
use Illuminate\Support\Facades\Route;

// Outside the groups `web` and `api`: no session, no CSRF token, no throttle. The middleware says who may come.
Route::post('/callbacks/dossier', ScanCallbackController::class)->middleware(VerifyDossier::class);
