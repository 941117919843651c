<?php

namespace App\Http\Middleware;

use Closure;
use Dossier\Verdict;
use Dossier\WebhookVerifier;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Symfony\Component\HttpFoundation\Response;

/** Lets in what Dossier sent: first the token, then the signature over the bytes as they came. */
class VerifyDossier
{
    public function __construct(private WebhookVerifier $verifier)
    {
    }

    public function handle(Request $request, Closure $next): Response
    {
        $known = false;
        foreach (config('dossier.tokens') as $token) {
            $known = hash_equals($token, (string) $request->header('Private-Token')) || $known;
        }
        if (! $known) {
            return new JsonResponse(['code' => 'api_key_invalid'], 401);
        }
        $verdict = $this->verifier->check(
            $request->getContent(),
            $request->header('webhook-id'),
            $request->header('webhook-timestamp'),
            $request->header('webhook-signature'),
        );

        return $verdict === Verdict::Valid ? $next($request) : new JsonResponse(['code' => $verdict->value], 401);
    }
}
